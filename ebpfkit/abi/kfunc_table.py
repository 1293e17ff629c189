# ruff: noqa: E501, ISC004 - one prototype a line
"""Kernel functions that programs may call: prototypes, and which program types may. Generated: do not edit.

Made by tools/probe_kfuncs.py from the BTF of Linux 6.18 and by loading one call of each for each program type.
Rows only; flags and what the rows mean are `kfuncs`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEASURED_ON: Final = "6.18"

# Program types that the measured kernel refused before verification.
UNMEASURED: Final[tuple[str, ...]] = (
    "lirc_mode2",
    "ext",
    "lsm",
)

# They sleep: the verifier asked for a sleepable program.
SLEEPS: Final = (
    "bpf_arena_alloc_pages "
    "bpf_arena_free_pages "
    "bpf_arena_reserve_pages "
    "bpf_copy_from_user_dynptr "
    "bpf_copy_from_user_str "
    "bpf_copy_from_user_str_dynptr "
    "bpf_copy_from_user_task_dynptr "
    "bpf_copy_from_user_task_str "
    "bpf_copy_from_user_task_str_dynptr "
    "bpf_iter_dmabuf_destroy "
    "bpf_iter_dmabuf_new "
    "bpf_iter_dmabuf_next "
    "bpf_iter_kmem_cache_destroy "
    "bpf_iter_kmem_cache_new "
    "bpf_iter_kmem_cache_next "
    "bpf_lookup_user_key "
    "css_rstat_flush "
)

# (program types that may call them; *: every measured one, names)
ALLOWED: Final[tuple[tuple[str, str], ...]] = (
    (
        "",
        "bpf_fentry_test1 "
        "bpf_get_dentry_xattr "
        "bpf_get_file_xattr "
        "bpf_get_task_exe_file "
        "bpf_modify_return_test "
        "bpf_modify_return_test2 "
        "bpf_path_d_path "
        "bpf_put_file "
        "bpf_remove_dentry_xattr "
        "bpf_session_cookie "
        "bpf_session_is_return "
        "bpf_set_dentry_xattr "
        "bpf_sock_destroy ",
    ),
    (
        "*",
        "__bpf_trap "
        "bpf_arena_alloc_pages "
        "bpf_arena_free_pages "
        "bpf_arena_reserve_pages "
        "bpf_cast_to_kern_ctx "
        "bpf_cgroup_read_xattr "
        "bpf_copy_from_user_dynptr "
        "bpf_copy_from_user_str "
        "bpf_copy_from_user_str_dynptr "
        "bpf_copy_from_user_task_dynptr "
        "bpf_copy_from_user_task_str "
        "bpf_copy_from_user_task_str_dynptr "
        "bpf_dynptr_adjust "
        "bpf_dynptr_clone "
        "bpf_dynptr_copy "
        "bpf_dynptr_is_null "
        "bpf_dynptr_is_rdonly "
        "bpf_dynptr_memset "
        "bpf_dynptr_size "
        "bpf_dynptr_slice "
        "bpf_dynptr_slice_rdwr "
        "bpf_get_kmem_cache "
        "bpf_iter_bits_destroy "
        "bpf_iter_bits_new "
        "bpf_iter_bits_next "
        "bpf_iter_css_destroy "
        "bpf_iter_css_new "
        "bpf_iter_css_next "
        "bpf_iter_css_task_destroy "
        "bpf_iter_css_task_new "
        "bpf_iter_css_task_next "
        "bpf_iter_dmabuf_destroy "
        "bpf_iter_dmabuf_new "
        "bpf_iter_dmabuf_next "
        "bpf_iter_kmem_cache_destroy "
        "bpf_iter_kmem_cache_new "
        "bpf_iter_kmem_cache_next "
        "bpf_iter_num_destroy "
        "bpf_iter_num_new "
        "bpf_iter_num_next "
        "bpf_iter_task_destroy "
        "bpf_iter_task_new "
        "bpf_iter_task_next "
        "bpf_iter_task_vma_destroy "
        "bpf_iter_task_vma_new "
        "bpf_iter_task_vma_next "
        "bpf_local_irq_restore "
        "bpf_local_irq_save "
        "bpf_map_sum_elem_count "
        "bpf_modify_return_test_tp "
        "bpf_preempt_disable "
        "bpf_preempt_enable "
        "bpf_probe_read_kernel_dynptr "
        "bpf_probe_read_kernel_str_dynptr "
        "bpf_probe_read_user_dynptr "
        "bpf_probe_read_user_str_dynptr "
        "bpf_rcu_read_lock "
        "bpf_rcu_read_unlock "
        "bpf_rdonly_cast "
        "bpf_res_spin_lock "
        "bpf_res_spin_lock_irqsave "
        "bpf_res_spin_unlock "
        "bpf_res_spin_unlock_irqrestore "
        "bpf_strcasecmp "
        "bpf_strchr "
        "bpf_strchrnul "
        "bpf_strcmp "
        "bpf_strcspn "
        "bpf_stream_vprintk_impl "
        "bpf_strlen "
        "bpf_strnchr "
        "bpf_strnlen "
        "bpf_strnstr "
        "bpf_strrchr "
        "bpf_strspn "
        "bpf_strstr "
        "bpf_task_work_schedule_resume_impl "
        "bpf_task_work_schedule_signal_impl "
        "bpf_wq_init "
        "bpf_wq_set_callback_impl "
        "bpf_wq_start "
        "bpf_xdp_metadata_rx_hash "
        "bpf_xdp_metadata_rx_timestamp "
        "bpf_xdp_metadata_rx_vlan_tag ",
    ),
    (
        "cgroup_device cgroup_skb cgroup_sock cgroup_sock_addr cgroup_sockopt cgroup_sysctl lwt_in lwt_out lwt_seg6local lwt_xmit netfilter perf_event sched_act sched_cls sk_skb sock_ops socket_filter tracepoint tracing",
        "bpf_dynptr_from_skb ",
    ),
    (
        "cgroup_device cgroup_skb cgroup_sock cgroup_sock_addr cgroup_sockopt cgroup_sysctl perf_event sched_cls sock_ops struct_ops syscall tracepoint tracing xdp",
        "bpf_cgroup_acquire "
        "bpf_cgroup_ancestor "
        "bpf_cgroup_from_id "
        "bpf_cgroup_release "
        "bpf_key_put "
        "bpf_list_back "
        "bpf_list_front "
        "bpf_list_pop_back "
        "bpf_list_pop_front "
        "bpf_list_push_back_impl "
        "bpf_list_push_front_impl "
        "bpf_lookup_system_key "
        "bpf_lookup_user_key "
        "bpf_obj_drop_impl "
        "bpf_obj_new_impl "
        "bpf_percpu_obj_drop_impl "
        "bpf_percpu_obj_new_impl "
        "bpf_rbtree_add_impl "
        "bpf_rbtree_first "
        "bpf_rbtree_left "
        "bpf_rbtree_remove "
        "bpf_rbtree_right "
        "bpf_rbtree_root "
        "bpf_refcount_acquire_impl "
        "bpf_send_signal_task "
        "bpf_task_acquire "
        "bpf_task_from_pid "
        "bpf_task_from_vpid "
        "bpf_task_get_cgroup1 "
        "bpf_task_release "
        "bpf_task_under_cgroup "
        "bpf_throw ",
    ),
    (
        "cgroup_device cgroup_skb cgroup_sock cgroup_sock_addr cgroup_sockopt cgroup_sysctl sock_ops",
        "bpf_sock_addr_set_sun_path bpf_sock_ops_enable_tx_tstamp ",
    ),
    (
        "perf_event sched_cls syscall tracepoint tracing",
        "bpf_kfunc_call_memb_release bpf_kfunc_call_test_release ",
    ),
    (
        "perf_event struct_ops syscall tracepoint tracing",
        "bpf_cpumask_acquire "
        "bpf_cpumask_and "
        "bpf_cpumask_any_and_distribute "
        "bpf_cpumask_any_distribute "
        "bpf_cpumask_clear "
        "bpf_cpumask_clear_cpu "
        "bpf_cpumask_copy "
        "bpf_cpumask_create "
        "bpf_cpumask_empty "
        "bpf_cpumask_equal "
        "bpf_cpumask_first "
        "bpf_cpumask_first_and "
        "bpf_cpumask_first_zero "
        "bpf_cpumask_full "
        "bpf_cpumask_intersects "
        "bpf_cpumask_or "
        "bpf_cpumask_populate "
        "bpf_cpumask_release "
        "bpf_cpumask_set_cpu "
        "bpf_cpumask_setall "
        "bpf_cpumask_subset "
        "bpf_cpumask_test_and_clear_cpu "
        "bpf_cpumask_test_and_set_cpu "
        "bpf_cpumask_test_cpu "
        "bpf_cpumask_weight "
        "bpf_cpumask_xor ",
    ),
    (
        "perf_event tracepoint tracing",
        "css_rstat_flush css_rstat_updated ",
    ),
    (
        "sched_act sched_cls",
        "bpf_dynptr_from_skb_meta ",
    ),
    (
        "sched_act sched_cls xdp",
        "bpf_crypto_decrypt bpf_crypto_encrypt ",
    ),
    (
        "sched_cls",
        "bpf_sk_assign_tcp_reqsk ",
    ),
    (
        "sched_cls xdp",
        "bpf_ct_change_status "
        "bpf_ct_change_timeout "
        "bpf_ct_insert_entry "
        "bpf_ct_release "
        "bpf_ct_set_nat_info "
        "bpf_ct_set_status "
        "bpf_ct_set_timeout "
        "bpf_skb_ct_alloc "
        "bpf_skb_ct_lookup "
        "bpf_xdp_ct_alloc "
        "bpf_xdp_ct_lookup ",
    ),
    (
        "struct_ops",
        "bbr_cwnd_event "
        "bbr_init "
        "bbr_main "
        "bbr_min_tso_segs "
        "bbr_set_state "
        "bbr_sndbuf_expand "
        "bbr_ssthresh "
        "bbr_undo_cwnd "
        "cubictcp_acked "
        "cubictcp_cong_avoid "
        "cubictcp_cwnd_event "
        "cubictcp_init "
        "cubictcp_recalc_ssthresh "
        "cubictcp_state "
        "tcp_cong_avoid_ai "
        "tcp_reno_cong_avoid "
        "tcp_reno_ssthresh "
        "tcp_reno_undo_cwnd "
        "tcp_slow_start ",
    ),
    (
        "syscall",
        "bpf_crypto_ctx_acquire bpf_crypto_ctx_create bpf_crypto_ctx_release ",
    ),
    (
        "xdp",
        "bpf_dynptr_from_xdp bpf_xdp_get_xfrm_state bpf_xdp_pull_data bpf_xdp_xfrm_state_release ",
    ),
)

# Result, then parameters: u4 a 4-byte number, v nothing, *TYPE a pointer; a structure has its size in bytes,
# and ! where it holds more than numbers.
PROTOTYPES: Final[Mapping[str, str]] = {
    "__bpf_trap": "v",
    "bbr_cwnd_event": "v|sk:*struct sock 784!|event:u4",
    "bbr_init": "v|sk:*struct sock 784!",
    "bbr_main": "v|sk:*struct sock 784!|ack:u4|flag:s4|rs:*struct rate_sample 72",
    "bbr_min_tso_segs": "u4|sk:*struct sock 784!",
    "bbr_set_state": "v|sk:*struct sock 784!|new_state:u1",
    "bbr_sndbuf_expand": "u4|sk:*struct sock 784!",
    "bbr_ssthresh": "u4|sk:*struct sock 784!",
    "bbr_undo_cwnd": "u4|sk:*struct sock 784!",
    "bpf_arena_alloc_pages": "*v|p__map:*v|addr__ign:*v|page_cnt:u4|node_id:s4|flags:u8",
    "bpf_arena_free_pages": "v|p__map:*v|ptr__ign:*v|page_cnt:u4",
    "bpf_arena_reserve_pages": "s4|p__map:*v|ptr__ign:*v|page_cnt:u4",
    "bpf_cast_to_kern_ctx": "*v|obj:*v",
    "bpf_cgroup_acquire": "*struct cgroup 2240!|cgrp:*struct cgroup 2240!",
    "bpf_cgroup_ancestor": "*struct cgroup 2240!|cgrp:*struct cgroup 2240!|level:s4",
    "bpf_cgroup_from_id": "*struct cgroup 2240!|cgid:u8",
    "bpf_cgroup_read_xattr": "s4|cgroup:*struct cgroup 2240!|name__str:*u1|value_p:*struct bpf_dynptr 16",
    "bpf_cgroup_release": "v|cgrp:*struct cgroup 2240!",
    "bpf_copy_from_user_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v",
    "bpf_copy_from_user_str": "s4|dst:*v|dst__sz:u4|unsafe_ptr__ign:*v|flags:u8",
    "bpf_copy_from_user_str_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v",
    "bpf_copy_from_user_task_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v|tsk:*struct task_struct 3264!",
    "bpf_copy_from_user_task_str": "s4|dst:*v|dst__sz:u4|unsafe_ptr__ign:*v|tsk:*struct task_struct 3264!|flags:u8",
    "bpf_copy_from_user_task_str_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v|tsk:*struct task_struct 3264!",
    "bpf_cpumask_acquire": "*struct bpf_cpumask 40|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_and": "u1|dst:*struct bpf_cpumask 40|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_cpumask_any_and_distribute": "u4|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_cpumask_any_distribute": "u4|cpumask:*struct cpumask 32",
    "bpf_cpumask_clear": "v|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_clear_cpu": "v|cpu:u4|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_copy": "v|dst:*struct bpf_cpumask 40|src:*struct cpumask 32",
    "bpf_cpumask_create": "*struct bpf_cpumask 40",
    "bpf_cpumask_empty": "u1|cpumask:*struct cpumask 32",
    "bpf_cpumask_equal": "u1|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_cpumask_first": "u4|cpumask:*struct cpumask 32",
    "bpf_cpumask_first_and": "u4|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_cpumask_first_zero": "u4|cpumask:*struct cpumask 32",
    "bpf_cpumask_full": "u1|cpumask:*struct cpumask 32",
    "bpf_cpumask_intersects": "u1|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_cpumask_or": "v|dst:*struct bpf_cpumask 40|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_cpumask_populate": "s4|cpumask:*struct cpumask 32|src:*v|src__sz:u8",
    "bpf_cpumask_release": "v|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_set_cpu": "v|cpu:u4|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_setall": "v|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_subset": "u1|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_cpumask_test_and_clear_cpu": "u1|cpu:u4|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_test_and_set_cpu": "u1|cpu:u4|cpumask:*struct bpf_cpumask 40",
    "bpf_cpumask_test_cpu": "u1|cpu:u4|cpumask:*struct cpumask 32",
    "bpf_cpumask_weight": "u4|cpumask:*struct cpumask 32",
    "bpf_cpumask_xor": "v|dst:*struct bpf_cpumask 40|src1:*struct cpumask 32|src2:*struct cpumask 32",
    "bpf_crypto_ctx_acquire": "*struct bpf_crypto_ctx 48!|ctx:*struct bpf_crypto_ctx 48!",
    "bpf_crypto_ctx_create": "*struct bpf_crypto_ctx 48!|params:*struct bpf_crypto_params 408|params__sz:u4|err:*s4",
    "bpf_crypto_ctx_release": "v|ctx:*struct bpf_crypto_ctx 48!",
    "bpf_crypto_decrypt": "s4|ctx:*struct bpf_crypto_ctx 48!|src:*struct bpf_dynptr 16|dst:*struct bpf_dynptr 16|siv__nullable:*struct bpf_dynptr 16",
    "bpf_crypto_encrypt": "s4|ctx:*struct bpf_crypto_ctx 48!|src:*struct bpf_dynptr 16|dst:*struct bpf_dynptr 16|siv__nullable:*struct bpf_dynptr 16",
    "bpf_ct_change_status": "s4|nfct:*struct nf_conn 248!|status:u4",
    "bpf_ct_change_timeout": "s4|nfct:*struct nf_conn 248!|timeout:u4",
    "bpf_ct_insert_entry": "*struct nf_conn 248!|nfct_i:*struct nf_conn___init 248!",
    "bpf_ct_release": "v|nfct:*struct nf_conn 248!",
    "bpf_ct_set_nat_info": "s4|nfct:*struct nf_conn___init 248!|addr:*union nf_inet_addr 16|port:s4|manip:u4",
    "bpf_ct_set_status": "s4|nfct:*struct nf_conn___init 248!|status:u4",
    "bpf_ct_set_timeout": "v|nfct:*struct nf_conn___init 248!|timeout:u4",
    "bpf_dynptr_adjust": "s4|p:*struct bpf_dynptr 16|start:u4|end:u4",
    "bpf_dynptr_clone": "s4|p:*struct bpf_dynptr 16|clone__uninit:*struct bpf_dynptr 16",
    "bpf_dynptr_copy": "s4|dst_ptr:*struct bpf_dynptr 16|dst_off:u4|src_ptr:*struct bpf_dynptr 16|src_off:u4|size:u4",
    "bpf_dynptr_from_skb": "s4|s:*struct __sk_buff 192!|flags:u8|ptr__uninit:*struct bpf_dynptr 16",
    "bpf_dynptr_from_skb_meta": "s4|skb_:*struct __sk_buff 192!|flags:u8|ptr__uninit:*struct bpf_dynptr 16",
    "bpf_dynptr_from_xdp": "s4|x:*struct xdp_md 24|flags:u8|ptr__uninit:*struct bpf_dynptr 16",
    "bpf_dynptr_is_null": "u1|p:*struct bpf_dynptr 16",
    "bpf_dynptr_is_rdonly": "u1|p:*struct bpf_dynptr 16",
    "bpf_dynptr_memset": "s4|p:*struct bpf_dynptr 16|offset:u4|size:u4|val:u1",
    "bpf_dynptr_size": "u4|p:*struct bpf_dynptr 16",
    "bpf_dynptr_slice": "*v|p:*struct bpf_dynptr 16|offset:u4|buffer__opt:*v|buffer__szk:u4",
    "bpf_dynptr_slice_rdwr": "*v|p:*struct bpf_dynptr 16|offset:u4|buffer__opt:*v|buffer__szk:u4",
    "bpf_fentry_test1": "s4|a:s4",
    "bpf_get_dentry_xattr": "s4|dentry:*struct dentry 192!|name__str:*u1|value_p:*struct bpf_dynptr 16",
    "bpf_get_file_xattr": "s4|file:*struct file 184!|name__str:*u1|value_p:*struct bpf_dynptr 16",
    "bpf_get_kmem_cache": "*struct kmem_cache 8416!|addr:u8",
    "bpf_get_task_exe_file": "*struct file 184!|task:*struct task_struct 3264!",
    "bpf_iter_bits_destroy": "v|it:*struct bpf_iter_bits 16",
    "bpf_iter_bits_new": "s4|it:*struct bpf_iter_bits 16|unsafe_ptr__ign:*u8|nr_words:u4",
    "bpf_iter_bits_next": "*s4|it:*struct bpf_iter_bits 16",
    "bpf_iter_css_destroy": "v|it:*struct bpf_iter_css 24",
    "bpf_iter_css_new": "s4|it:*struct bpf_iter_css 24|start:*struct cgroup_subsys_state 208!|flags:u4",
    "bpf_iter_css_next": "*struct cgroup_subsys_state 208!|it:*struct bpf_iter_css 24",
    "bpf_iter_css_task_destroy": "v|it:*struct bpf_iter_css_task 8",
    "bpf_iter_css_task_new": "s4|it:*struct bpf_iter_css_task 8|css:*struct cgroup_subsys_state 208!|flags:u4",
    "bpf_iter_css_task_next": "*struct task_struct 3264!|it:*struct bpf_iter_css_task 8",
    "bpf_iter_dmabuf_destroy": "v|it:*struct bpf_iter_dmabuf 8",
    "bpf_iter_dmabuf_new": "s4|it:*struct bpf_iter_dmabuf 8",
    "bpf_iter_dmabuf_next": "*struct dma_buf 232!|it:*struct bpf_iter_dmabuf 8",
    "bpf_iter_kmem_cache_destroy": "v|it:*struct bpf_iter_kmem_cache 8",
    "bpf_iter_kmem_cache_new": "s4|it:*struct bpf_iter_kmem_cache 8",
    "bpf_iter_kmem_cache_next": "*struct kmem_cache 8416!|it:*struct bpf_iter_kmem_cache 8",
    "bpf_iter_num_destroy": "v|it:*struct bpf_iter_num 8",
    "bpf_iter_num_new": "s4|it:*struct bpf_iter_num 8|start:s4|end:s4",
    "bpf_iter_num_next": "*s4|it:*struct bpf_iter_num 8",
    "bpf_iter_task_destroy": "v|it:*struct bpf_iter_task 24",
    "bpf_iter_task_new": "s4|it:*struct bpf_iter_task 24|task__nullable:*struct task_struct 3264!|flags:u4",
    "bpf_iter_task_next": "*struct task_struct 3264!|it:*struct bpf_iter_task 24",
    "bpf_iter_task_vma_destroy": "v|it:*struct bpf_iter_task_vma 8",
    "bpf_iter_task_vma_new": "s4|it:*struct bpf_iter_task_vma 8|task:*struct task_struct 3264!|addr:u8",
    "bpf_iter_task_vma_next": "*struct vm_area_struct 192!|it:*struct bpf_iter_task_vma 8",
    "bpf_key_put": "v|bkey:*struct bpf_key 16!",
    "bpf_kfunc_call_memb_release": "v|p:*struct prog_test_member 8",
    "bpf_kfunc_call_test_release": "v|p:*struct prog_test_ref_kfunc 32!",
    "bpf_list_back": "*struct bpf_list_node 24|head:*struct bpf_list_head 16",
    "bpf_list_front": "*struct bpf_list_node 24|head:*struct bpf_list_head 16",
    "bpf_list_pop_back": "*struct bpf_list_node 24|head:*struct bpf_list_head 16",
    "bpf_list_pop_front": "*struct bpf_list_node 24|head:*struct bpf_list_head 16",
    "bpf_list_push_back_impl": "s4|head:*struct bpf_list_head 16|node:*struct bpf_list_node 24|meta__ign:*v|off:u8",
    "bpf_list_push_front_impl": "s4|head:*struct bpf_list_head 16|node:*struct bpf_list_node 24|meta__ign:*v|off:u8",
    "bpf_local_irq_restore": "v|flags__irq_flag:*u8",
    "bpf_local_irq_save": "v|flags__irq_flag:*u8",
    "bpf_lookup_system_key": "*struct bpf_key 16!|id:u8",
    "bpf_lookup_user_key": "*struct bpf_key 16!|serial:s4|flags:u8",
    "bpf_map_sum_elem_count": "s8|map:*struct bpf_map 296!",
    "bpf_modify_return_test": "s4|a:s4|b:*s4",
    "bpf_modify_return_test2": "s4|a:s4|b:*s4|c:s2|d:s4|e:*v|f:u1|g:s4",
    "bpf_modify_return_test_tp": "s4|nonce:s4",
    "bpf_obj_drop_impl": "v|p__alloc:*v|meta__ign:*v",
    "bpf_obj_new_impl": "*v|local_type_id__k:u8|meta__ign:*v",
    "bpf_path_d_path": "s4|path:*struct path 16!|buf:*u1|buf__sz:u8",
    "bpf_percpu_obj_drop_impl": "v|p__alloc:*v|meta__ign:*v",
    "bpf_percpu_obj_new_impl": "*v|local_type_id__k:u8|meta__ign:*v",
    "bpf_preempt_disable": "v",
    "bpf_preempt_enable": "v",
    "bpf_probe_read_kernel_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v",
    "bpf_probe_read_kernel_str_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v",
    "bpf_probe_read_user_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v",
    "bpf_probe_read_user_str_dynptr": "s4|dptr:*struct bpf_dynptr 16|off:u4|size:u4|unsafe_ptr__ign:*v",
    "bpf_put_file": "v|file:*struct file 184!",
    "bpf_rbtree_add_impl": "s4|root:*struct bpf_rb_root 16|node:*struct bpf_rb_node 32|less:*func|meta__ign:*v|off:u8",
    "bpf_rbtree_first": "*struct bpf_rb_node 32|root:*struct bpf_rb_root 16",
    "bpf_rbtree_left": "*struct bpf_rb_node 32|root:*struct bpf_rb_root 16|node:*struct bpf_rb_node 32",
    "bpf_rbtree_remove": "*struct bpf_rb_node 32|root:*struct bpf_rb_root 16|node:*struct bpf_rb_node 32",
    "bpf_rbtree_right": "*struct bpf_rb_node 32|root:*struct bpf_rb_root 16|node:*struct bpf_rb_node 32",
    "bpf_rbtree_root": "*struct bpf_rb_node 32|root:*struct bpf_rb_root 16",
    "bpf_rcu_read_lock": "v",
    "bpf_rcu_read_unlock": "v",
    "bpf_rdonly_cast": "*v|obj__ign:*v|btf_id__k:u4",
    "bpf_refcount_acquire_impl": "*v|p__refcounted_kptr:*v|meta__ign:*v",
    "bpf_remove_dentry_xattr": "s4|dentry:*struct dentry 192!|name__str:*u1",
    "bpf_res_spin_lock": "s4|lock:*struct bpf_res_spin_lock 4",
    "bpf_res_spin_lock_irqsave": "s4|lock:*struct bpf_res_spin_lock 4|flags__irq_flag:*u8",
    "bpf_res_spin_unlock": "v|lock:*struct bpf_res_spin_lock 4",
    "bpf_res_spin_unlock_irqrestore": "v|lock:*struct bpf_res_spin_lock 4|flags__irq_flag:*u8",
    "bpf_send_signal_task": "s4|task:*struct task_struct 3264!|sig:s4|type:u4|value:u8",
    "bpf_session_cookie": "*u8",
    "bpf_session_is_return": "u1",
    "bpf_set_dentry_xattr": "s4|dentry:*struct dentry 192!|name__str:*u1|value_p:*struct bpf_dynptr 16|flags:s4",
    "bpf_sk_assign_tcp_reqsk": "s4|s:*struct __sk_buff 192!|sk:*struct sock 784!|attrs:*struct bpf_tcp_req_attrs 20|attrs__sz:s4",
    "bpf_skb_ct_alloc": "*struct nf_conn___init 248!|skb_ctx:*struct __sk_buff 192!|bpf_tuple:*struct bpf_sock_tuple 36|tuple__sz:u4|opts:*struct bpf_ct_opts 16|opts__sz:u4",
    "bpf_skb_ct_lookup": "*struct nf_conn 248!|skb_ctx:*struct __sk_buff 192!|bpf_tuple:*struct bpf_sock_tuple 36|tuple__sz:u4|opts:*struct bpf_ct_opts 16|opts__sz:u4",
    "bpf_sock_addr_set_sun_path": "s4|sa_kern:*struct bpf_sock_addr_kern 40!|sun_path:*u1|sun_path__sz:u4",
    "bpf_sock_destroy": "s4|sock:*struct sock_common 136!",
    "bpf_sock_ops_enable_tx_tstamp": "s4|skops:*struct bpf_sock_ops_kern 64!|flags:u8",
    "bpf_strcasecmp": "s4|s1__ign:*u1|s2__ign:*u1",
    "bpf_strchr": "s4|s__ign:*u1|c:u1",
    "bpf_strchrnul": "s4|s__ign:*u1|c:u1",
    "bpf_strcmp": "s4|s1__ign:*u1|s2__ign:*u1",
    "bpf_strcspn": "s4|s__ign:*u1|reject__ign:*u1",
    "bpf_stream_vprintk_impl": "s4|stream_id:s4|fmt__str:*u1|args:*v|len__sz:u4|aux__prog:*v",
    "bpf_strlen": "s4|s__ign:*u1",
    "bpf_strnchr": "s4|s__ign:*u1|count:u8|c:u1",
    "bpf_strnlen": "s4|s__ign:*u1|count:u8",
    "bpf_strnstr": "s4|s1__ign:*u1|s2__ign:*u1|len:u8",
    "bpf_strrchr": "s4|s__ign:*u1|c:s4",
    "bpf_strspn": "s4|s__ign:*u1|accept__ign:*u1",
    "bpf_strstr": "s4|s1__ign:*u1|s2__ign:*u1",
    "bpf_task_acquire": "*struct task_struct 3264!|p:*struct task_struct 3264!",
    "bpf_task_from_pid": "*struct task_struct 3264!|pid:s4",
    "bpf_task_from_vpid": "*struct task_struct 3264!|vpid:s4",
    "bpf_task_get_cgroup1": "*struct cgroup 2240!|task:*struct task_struct 3264!|hierarchy_id:s4",
    "bpf_task_release": "v|p:*struct task_struct 3264!",
    "bpf_task_under_cgroup": "s8|task:*struct task_struct 3264!|ancestor:*struct cgroup 2240!",
    "bpf_task_work_schedule_resume_impl": "s4|task:*struct task_struct 3264!|tw:*struct bpf_task_work 8|map__map:*v|callback:*func|aux__prog:*v",
    "bpf_task_work_schedule_signal_impl": "s4|task:*struct task_struct 3264!|tw:*struct bpf_task_work 8|map__map:*v|callback:*func|aux__prog:*v",
    "bpf_throw": "v|cookie:u8",
    "bpf_wq_init": "s4|wq:*struct bpf_wq 16|p__map:*v|flags:u4",
    "bpf_wq_set_callback_impl": "s4|wq:*struct bpf_wq 16|callback_fn:*func|flags:u4|aux__prog:*v",
    "bpf_wq_start": "s4|wq:*struct bpf_wq 16|flags:u4",
    "bpf_xdp_ct_alloc": "*struct nf_conn___init 248!|xdp_ctx:*struct xdp_md 24|bpf_tuple:*struct bpf_sock_tuple 36|tuple__sz:u4|opts:*struct bpf_ct_opts 16|opts__sz:u4",
    "bpf_xdp_ct_lookup": "*struct nf_conn 248!|xdp_ctx:*struct xdp_md 24|bpf_tuple:*struct bpf_sock_tuple 36|tuple__sz:u4|opts:*struct bpf_ct_opts 16|opts__sz:u4",
    "bpf_xdp_get_xfrm_state": "*struct xfrm_state 816!|ctx:*struct xdp_md 24|opts:*struct bpf_xfrm_state_opts 36|opts__sz:u4",
    "bpf_xdp_metadata_rx_hash": "s4|ctx:*struct xdp_md 24|hash:*u4|rss_type:*u4",
    "bpf_xdp_metadata_rx_timestamp": "s4|ctx:*struct xdp_md 24|timestamp:*u8",
    "bpf_xdp_metadata_rx_vlan_tag": "s4|ctx:*struct xdp_md 24|vlan_proto:*u2|vlan_tci:*u2",
    "bpf_xdp_pull_data": "s4|x:*struct xdp_md 24|len:u4",
    "bpf_xdp_xfrm_state_release": "v|x:*struct xfrm_state 816!",
    "css_rstat_flush": "v|css:*struct cgroup_subsys_state 208!",
    "css_rstat_updated": "v|css:*struct cgroup_subsys_state 208!|cpu:s4",
    "cubictcp_acked": "v|sk:*struct sock 784!|sample:*struct ack_sample 12",
    "cubictcp_cong_avoid": "v|sk:*struct sock 784!|ack:u4|acked:u4",
    "cubictcp_cwnd_event": "v|sk:*struct sock 784!|event:u4",
    "cubictcp_init": "v|sk:*struct sock 784!",
    "cubictcp_recalc_ssthresh": "u4|sk:*struct sock 784!",
    "cubictcp_state": "v|sk:*struct sock 784!|new_state:u1",
    "tcp_cong_avoid_ai": "v|tp:*struct tcp_sock 2304!|w:u4|acked:u4",
    "tcp_reno_cong_avoid": "v|sk:*struct sock 784!|ack:u4|acked:u4",
    "tcp_reno_ssthresh": "u4|sk:*struct sock 784!",
    "tcp_reno_undo_cwnd": "u4|sk:*struct sock 784!",
    "tcp_slow_start": "u4|tp:*struct tcp_sock 2304!|acked:u4",
}
