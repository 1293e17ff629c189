# ruff: noqa: E501 - one prototype a line
"""Kernel functions of older kernels: who may call them, and prototypes unlike 6.18's. Generated: do not edit.

Made by tools/probe_old_kfuncs.py from the BTF of each kernel and by loading one call of each for each program type.
Functions of modules are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Program types that the kernel refused before verification, or that were not asked.
UNMEASURED: Final[Mapping[str, str]] = {
    "6.1": "ext lirc_mode2 netfilter struct_ops",
    "6.12": "ext lirc_mode2 struct_ops",
}

# They sleep: the verifier asked for a sleepable program.
SLEEPS: Final[Mapping[str, str]] = {
    "6.1": "",
    "6.12": "bpf_arena_alloc_pages bpf_arena_free_pages bpf_copy_from_user_str bpf_get_dentry_xattr bpf_get_file_xattr bpf_lookup_user_key bpf_verify_pkcs7_signature cgroup_rstat_flush",
}

# (program types that may call them; *: every measured one, names)
ALLOWED: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "6.1": (
        (
            "lsm sched_cls syscall tracing",
            "bpf_kfunc_call_int_mem_release bpf_kfunc_call_memb1_release bpf_kfunc_call_memb_acquire bpf_kfunc_call_memb_release bpf_kfunc_call_test1 bpf_kfunc_call_test2 bpf_kfunc_call_test3 bpf_kfunc_call_test_acq_rdonly_mem bpf_kfunc_call_test_acquire bpf_kfunc_call_test_destructive bpf_kfunc_call_test_fail1 bpf_kfunc_call_test_fail2 bpf_kfunc_call_test_fail3 bpf_kfunc_call_test_get_rdonly_mem bpf_kfunc_call_test_get_rdwr_mem bpf_kfunc_call_test_kptr_get bpf_kfunc_call_test_mem_len_fail1 bpf_kfunc_call_test_mem_len_fail2 bpf_kfunc_call_test_mem_len_pass1 bpf_kfunc_call_test_pass1 bpf_kfunc_call_test_pass2 bpf_kfunc_call_test_pass_ctx bpf_kfunc_call_test_ref bpf_kfunc_call_test_release",
        ),
        (
            "lsm tracing",
            "bpf_fentry_test1 bpf_key_put bpf_lookup_system_key bpf_lookup_user_key bpf_modify_return_test bpf_verify_pkcs7_signature cgroup_rstat_boot cgroup_rstat_exit cgroup_rstat_flush cgroup_rstat_flush_hold cgroup_rstat_flush_irqsafe cgroup_rstat_flush_locked cgroup_rstat_flush_release cgroup_rstat_init cgroup_rstat_updated crash_kexec cubictcp_acked cubictcp_cong_avoid cubictcp_cwnd_event cubictcp_init cubictcp_recalc_ssthresh cubictcp_state tcp_cong_avoid_ai tcp_reno_cong_avoid tcp_reno_ssthresh tcp_reno_undo_cwnd tcp_slow_start",
        ),
    ),
    "6.12": (
        (
            "*",
            "bpf_arena_alloc_pages bpf_arena_free_pages bpf_cast_to_kern_ctx bpf_copy_from_user_str bpf_dynptr_adjust bpf_dynptr_clone bpf_dynptr_is_null bpf_dynptr_is_rdonly bpf_dynptr_size bpf_dynptr_slice bpf_dynptr_slice_rdwr bpf_iter_bits_destroy bpf_iter_bits_new bpf_iter_bits_next bpf_iter_css_destroy bpf_iter_css_new bpf_iter_css_next bpf_iter_css_task_destroy bpf_iter_css_task_new bpf_iter_css_task_next bpf_iter_num_destroy bpf_iter_num_new bpf_iter_num_next bpf_iter_task_destroy bpf_iter_task_new bpf_iter_task_next bpf_iter_task_vma_destroy bpf_iter_task_vma_new bpf_iter_task_vma_next bpf_map_sum_elem_count bpf_modify_return_test_tp bpf_preempt_disable bpf_preempt_enable bpf_rcu_read_lock bpf_rcu_read_unlock bpf_rdonly_cast bpf_wq_init bpf_wq_set_callback_impl bpf_wq_start bpf_xdp_metadata_rx_hash bpf_xdp_metadata_rx_timestamp bpf_xdp_metadata_rx_vlan_tag",
        ),
        (
            "cgroup_device cgroup_skb cgroup_sock cgroup_sock_addr cgroup_sockopt cgroup_sysctl lsm lwt_in lwt_out lwt_seg6local lwt_xmit netfilter perf_event sched_act sched_cls sk_skb socket_filter tracepoint tracing",
            "bpf_dynptr_from_skb",
        ),
        (
            "cgroup_device cgroup_skb cgroup_sock cgroup_sock_addr cgroup_sockopt cgroup_sysctl lsm perf_event sched_cls syscall tracepoint tracing xdp",
            "bpf_cgroup_acquire bpf_cgroup_ancestor bpf_cgroup_from_id bpf_cgroup_release bpf_list_pop_back bpf_list_pop_front bpf_list_push_back_impl bpf_list_push_front_impl bpf_obj_drop_impl bpf_obj_new_impl bpf_percpu_obj_drop_impl bpf_percpu_obj_new_impl bpf_rbtree_add_impl bpf_rbtree_first bpf_rbtree_remove bpf_refcount_acquire_impl bpf_task_acquire bpf_task_from_pid bpf_task_get_cgroup1 bpf_task_release bpf_task_under_cgroup bpf_throw crash_kexec",
        ),
        (
            "cgroup_device cgroup_skb cgroup_sock cgroup_sock_addr cgroup_sockopt cgroup_sysctl lsm tracing",
            "bpf_sock_addr_set_sun_path",
        ),
        (
            "lsm perf_event sched_cls syscall tracepoint tracing",
            "bpf_kfunc_call_memb_release bpf_kfunc_call_test_release",
        ),
        (
            "lsm perf_event syscall tracepoint tracing",
            "bpf_cpumask_acquire bpf_cpumask_and bpf_cpumask_any_and_distribute bpf_cpumask_any_distribute bpf_cpumask_clear bpf_cpumask_clear_cpu bpf_cpumask_copy bpf_cpumask_create bpf_cpumask_empty bpf_cpumask_equal bpf_cpumask_first bpf_cpumask_first_and bpf_cpumask_first_zero bpf_cpumask_full bpf_cpumask_intersects bpf_cpumask_or bpf_cpumask_release bpf_cpumask_set_cpu bpf_cpumask_setall bpf_cpumask_subset bpf_cpumask_test_and_clear_cpu bpf_cpumask_test_and_set_cpu bpf_cpumask_test_cpu bpf_cpumask_weight bpf_cpumask_xor",
        ),
        (
            "lsm perf_event tracepoint tracing",
            "bpf_key_put bpf_lookup_system_key bpf_lookup_user_key bpf_verify_pkcs7_signature cgroup_rstat_flush cgroup_rstat_updated",
        ),
        ("lsm sched_act sched_cls tracing xdp", "bpf_crypto_decrypt bpf_crypto_encrypt"),
        ("lsm sched_cls tracing", "bpf_sk_assign_tcp_reqsk"),
        ("lsm syscall tracing", "bpf_crypto_ctx_acquire bpf_crypto_ctx_create bpf_crypto_ctx_release"),
        (
            "lsm tracing",
            "bpf_fentry_test1 bpf_get_dentry_xattr bpf_get_file_xattr bpf_get_task_exe_file bpf_kfunc_call_memb_release_dtor bpf_kfunc_call_test_release_dtor bpf_modify_return_test bpf_modify_return_test2 bpf_path_d_path bpf_put_file bpf_session_cookie bpf_session_is_return bpf_sock_destroy cgroup_rstat_boot cgroup_rstat_exit cgroup_rstat_flush_hold cgroup_rstat_flush_locked cgroup_rstat_flush_release cgroup_rstat_init cubictcp_acked cubictcp_cong_avoid cubictcp_cwnd_event cubictcp_init cubictcp_recalc_ssthresh cubictcp_state tcp_cong_avoid_ai tcp_reno_cong_avoid tcp_reno_ssthresh tcp_reno_undo_cwnd tcp_slow_start",
        ),
        ("lsm tracing xdp", "bpf_dynptr_from_xdp bpf_xdp_get_xfrm_state bpf_xdp_xfrm_state_release"),
    ),
}

# Prototypes unlike those of the newest kernel measured, spelled as in `kfunc_table`.
PROTOTYPES: Final[Mapping[str, Mapping[str, str]]] = {
    "6.1": {
        "bpf_kfunc_call_int_mem_release": "v|p:*s4",
        "bpf_kfunc_call_memb1_release": "v|p:*struct prog_test_member1 4",
        "bpf_kfunc_call_memb_acquire": "*struct prog_test_member 8",
        "bpf_kfunc_call_test1": "u8|sk:*struct sock 776!|a:u4|b:u8|c:u4|d:u8",
        "bpf_kfunc_call_test2": "s4|sk:*struct sock 776!|a:u4|b:u4",
        "bpf_kfunc_call_test3": "*struct sock 776!|sk:*struct sock 776!",
        "bpf_kfunc_call_test_acq_rdonly_mem": "*s4|p:*struct prog_test_ref_kfunc 32!|rdonly_buf_size:s4",
        "bpf_kfunc_call_test_acquire": "*struct prog_test_ref_kfunc 32!|scalar_ptr:*u8",
        "bpf_kfunc_call_test_destructive": "v",
        "bpf_kfunc_call_test_fail1": "v|p:*struct prog_test_fail1 16!",
        "bpf_kfunc_call_test_fail2": "v|p:*struct prog_test_fail2 20!",
        "bpf_kfunc_call_test_fail3": "v|p:*struct prog_test_fail3 8",
        "bpf_kfunc_call_test_get_rdonly_mem": "*s4|p:*struct prog_test_ref_kfunc 32!|rdonly_buf_size:s4",
        "bpf_kfunc_call_test_get_rdwr_mem": "*s4|p:*struct prog_test_ref_kfunc 32!|rdwr_buf_size:s4",
        "bpf_kfunc_call_test_kptr_get": "*struct prog_test_ref_kfunc 32!|pp:**struct prog_test_ref_kfunc 32!|a:s4|b:s4",
        "bpf_kfunc_call_test_mem_len_fail1": "v|mem:*v|len:s4",
        "bpf_kfunc_call_test_mem_len_fail2": "v|mem:*u8|len:s4",
        "bpf_kfunc_call_test_mem_len_pass1": "v|mem:*v|mem__sz:s4",
        "bpf_kfunc_call_test_pass1": "v|p:*struct prog_test_pass1 16",
        "bpf_kfunc_call_test_pass2": "v|p:*struct prog_test_pass2 88",
        "bpf_kfunc_call_test_pass_ctx": "v|skb:*struct __sk_buff 192!",
        "bpf_kfunc_call_test_ref": "v|p:*struct prog_test_ref_kfunc 32!",
        "bpf_lookup_user_key": "*struct bpf_key 16!|serial:u4|flags:u8",
        "bpf_verify_pkcs7_signature": "s4|data_ptr:*struct bpf_dynptr_kern 16!|sig_ptr:*struct bpf_dynptr_kern 16!|trusted_keyring:*struct bpf_key 16!",
        "cgroup_rstat_boot": "v",
        "cgroup_rstat_exit": "v|cgrp:*struct cgroup 1792!",
        "cgroup_rstat_flush": "v|cgrp:*struct cgroup 1792!",
        "cgroup_rstat_flush_hold": "v|cgrp:*struct cgroup 1792!",
        "cgroup_rstat_flush_irqsafe": "v|cgrp:*struct cgroup 1792!",
        "cgroup_rstat_flush_locked": "v|cgrp:*struct cgroup 1792!|may_sleep:u1",
        "cgroup_rstat_flush_release": "v",
        "cgroup_rstat_init": "s4|cgrp:*struct cgroup 1792!",
        "cgroup_rstat_updated": "v|cgrp:*struct cgroup 1792!|cpu:s4",
        "crash_kexec": "v|regs:*struct pt_regs 168",
        "cubictcp_acked": "v|sk:*struct sock 776!|sample:*struct ack_sample 12",
        "cubictcp_cong_avoid": "v|sk:*struct sock 776!|ack:u4|acked:u4",
        "cubictcp_cwnd_event": "v|sk:*struct sock 776!|event:u4",
        "cubictcp_init": "v|sk:*struct sock 776!",
        "cubictcp_recalc_ssthresh": "u4|sk:*struct sock 776!",
        "cubictcp_state": "v|sk:*struct sock 776!|new_state:u1",
        "tcp_cong_avoid_ai": "v|tp:*struct tcp_sock 2280!|w:u4|acked:u4",
        "tcp_reno_cong_avoid": "v|sk:*struct sock 776!|ack:u4|acked:u4",
        "tcp_reno_ssthresh": "u4|sk:*struct sock 776!",
        "tcp_reno_undo_cwnd": "u4|sk:*struct sock 776!",
        "tcp_slow_start": "u4|tp:*struct tcp_sock 2280!|acked:u4",
    },
    "6.12": {
        "bpf_cgroup_acquire": "*struct cgroup 2304!|cgrp:*struct cgroup 2304!",
        "bpf_cgroup_ancestor": "*struct cgroup 2304!|cgrp:*struct cgroup 2304!|level:s4",
        "bpf_cgroup_from_id": "*struct cgroup 2304!|cgid:u8",
        "bpf_cgroup_release": "v|cgrp:*struct cgroup 2304!",
        "bpf_cpumask_acquire": "*struct bpf_cpumask 1032|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_and": "u1|dst:*struct bpf_cpumask 1032|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_cpumask_any_and_distribute": "u4|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_cpumask_any_distribute": "u4|cpumask:*struct cpumask 1024",
        "bpf_cpumask_clear": "v|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_clear_cpu": "v|cpu:u4|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_copy": "v|dst:*struct bpf_cpumask 1032|src:*struct cpumask 1024",
        "bpf_cpumask_create": "*struct bpf_cpumask 1032",
        "bpf_cpumask_empty": "u1|cpumask:*struct cpumask 1024",
        "bpf_cpumask_equal": "u1|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_cpumask_first": "u4|cpumask:*struct cpumask 1024",
        "bpf_cpumask_first_and": "u4|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_cpumask_first_zero": "u4|cpumask:*struct cpumask 1024",
        "bpf_cpumask_full": "u1|cpumask:*struct cpumask 1024",
        "bpf_cpumask_intersects": "u1|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_cpumask_or": "v|dst:*struct bpf_cpumask 1032|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_cpumask_release": "v|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_set_cpu": "v|cpu:u4|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_setall": "v|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_subset": "u1|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_cpumask_test_and_clear_cpu": "u1|cpu:u4|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_test_and_set_cpu": "u1|cpu:u4|cpumask:*struct bpf_cpumask 1032",
        "bpf_cpumask_test_cpu": "u1|cpu:u4|cpumask:*struct cpumask 1024",
        "bpf_cpumask_weight": "u4|cpumask:*struct cpumask 1024",
        "bpf_cpumask_xor": "v|dst:*struct bpf_cpumask 1032|src1:*struct cpumask 1024|src2:*struct cpumask 1024",
        "bpf_get_task_exe_file": "*struct file 184!|task:*struct task_struct 9792!",
        "bpf_iter_css_task_next": "*struct task_struct 9792!|it:*struct bpf_iter_css_task 8",
        "bpf_iter_task_new": "s4|it:*struct bpf_iter_task 24|task__nullable:*struct task_struct 9792!|flags:u4",
        "bpf_iter_task_next": "*struct task_struct 9792!|it:*struct bpf_iter_task 24",
        "bpf_iter_task_vma_new": "s4|it:*struct bpf_iter_task_vma 8|task:*struct task_struct 9792!|addr:u8",
        "bpf_iter_task_vma_next": "*struct vm_area_struct 176!|it:*struct bpf_iter_task_vma 8",
        "bpf_kfunc_call_memb_release_dtor": "v|p:*v",
        "bpf_kfunc_call_test_release_dtor": "v|p:*v",
        "bpf_lookup_user_key": "*struct bpf_key 16!|serial:u4|flags:u8",
        "bpf_map_sum_elem_count": "s8|map:*struct bpf_map 248!",
        "bpf_sk_assign_tcp_reqsk": "s4|s:*struct __sk_buff 192!|sk:*struct sock 776!|attrs:*struct bpf_tcp_req_attrs 20|attrs__sz:s4",
        "bpf_task_acquire": "*struct task_struct 9792!|p:*struct task_struct 9792!",
        "bpf_task_from_pid": "*struct task_struct 9792!|pid:s4",
        "bpf_task_get_cgroup1": "*struct cgroup 2304!|task:*struct task_struct 9792!|hierarchy_id:s4",
        "bpf_task_release": "v|p:*struct task_struct 9792!",
        "bpf_task_under_cgroup": "s8|task:*struct task_struct 9792!|ancestor:*struct cgroup 2304!",
        "bpf_verify_pkcs7_signature": "s4|data_p:*struct bpf_dynptr 16|sig_p:*struct bpf_dynptr 16|trusted_keyring:*struct bpf_key 16!",
        "bpf_wq_set_callback_impl": "s4|wq:*struct bpf_wq 16|callback_fn:*func|flags:u4|aux__ign:*v",
        "bpf_xdp_get_xfrm_state": "*struct xfrm_state 792!|ctx:*struct xdp_md 24|opts:*struct bpf_xfrm_state_opts 36|opts__sz:u4",
        "bpf_xdp_xfrm_state_release": "v|x:*struct xfrm_state 792!",
        "cgroup_rstat_boot": "v",
        "cgroup_rstat_exit": "v|cgrp:*struct cgroup 2304!",
        "cgroup_rstat_flush": "v|cgrp:*struct cgroup 2304!",
        "cgroup_rstat_flush_hold": "v|cgrp:*struct cgroup 2304!",
        "cgroup_rstat_flush_locked": "v|cgrp:*struct cgroup 2304!",
        "cgroup_rstat_flush_release": "v|cgrp:*struct cgroup 2304!",
        "cgroup_rstat_init": "s4|cgrp:*struct cgroup 2304!",
        "cgroup_rstat_updated": "v|cgrp:*struct cgroup 2304!|cpu:s4",
        "crash_kexec": "v|regs:*struct pt_regs 168",
        "cubictcp_acked": "v|sk:*struct sock 776!|sample:*struct ack_sample 12",
        "cubictcp_cong_avoid": "v|sk:*struct sock 776!|ack:u4|acked:u4",
        "cubictcp_cwnd_event": "v|sk:*struct sock 776!|event:u4",
        "cubictcp_init": "v|sk:*struct sock 776!",
        "cubictcp_recalc_ssthresh": "u4|sk:*struct sock 776!",
        "cubictcp_state": "v|sk:*struct sock 776!|new_state:u1",
        "tcp_cong_avoid_ai": "v|tp:*struct tcp_sock 2368!|w:u4|acked:u4",
        "tcp_reno_cong_avoid": "v|sk:*struct sock 776!|ack:u4|acked:u4",
        "tcp_reno_ssthresh": "u4|sk:*struct sock 776!",
        "tcp_reno_undo_cwnd": "u4|sk:*struct sock 776!",
        "tcp_slow_start": "u4|tp:*struct tcp_sock 2368!|acked:u4",
    },
}
