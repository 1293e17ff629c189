"""The layouts of `union bpf_attr`, one structure per command, and of the info structures the kernel fills in.

Names and order are those of linux/bpf.h. A structure is passed with its own size: an older kernel accepts a longer one
as long as the tail is zero, a newer one fills up with zeros. Behaviour lives in `bpf`.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, Union, c_char, c_int32, c_uint8, c_uint32, c_uint64

__all__ = [
    "BtfInfo", "BtfLoad", "Elem", "GetId", "GetInfo", "IterCreate", "LinkCreate", "LinkDetach", "LinkInfo",
    "LinkUpdate", "MapBatch", "MapCreate", "MapInfo", "ObjPath", "ProgAttach", "ProgInfo", "ProgLoad", "ProgQuery",
    "RawTracepoint", "TestRun", "address_of",
]  # fmt: skip

OBJ_NAME_LEN = 16


def address_of(data: bytes) -> int:
    """The address of the bytes themselves, good for reading as long as `data` is referenced."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


class MapCreate(Structure):
    """BPF_MAP_CREATE."""

    _fields_ = (
        ("map_type", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("inner_map_fd", c_uint32),
        ("numa_node", c_uint32),
        ("map_name", c_char * OBJ_NAME_LEN),
        ("map_ifindex", c_uint32),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("map_extra", c_uint64),
        ("value_type_btf_obj_fd", c_int32),
        ("map_token_fd", c_int32),
    )


class _ValueOrNextKey(Union):
    _fields_ = (("value", c_uint64), ("next_key", c_uint64))


class Elem(Structure):
    """BPF_MAP_LOOKUP_ELEM, UPDATE_ELEM, DELETE_ELEM, GET_NEXT_KEY, LOOKUP_AND_DELETE_ELEM, FREEZE."""

    _anonymous_ = ("u",)
    _fields_ = (("map_fd", c_uint32), ("key", c_uint64), ("u", _ValueOrNextKey), ("flags", c_uint64))


class MapBatch(Structure):
    """BPF_MAP_LOOKUP_BATCH, LOOKUP_AND_DELETE_BATCH, UPDATE_BATCH, DELETE_BATCH."""

    _fields_ = (
        ("in_batch", c_uint64),
        ("out_batch", c_uint64),
        ("keys", c_uint64),
        ("values", c_uint64),
        ("count", c_uint32),
        ("map_fd", c_uint32),
        ("elem_flags", c_uint64),
        ("flags", c_uint64),
    )


class ProgLoad(Structure):
    """BPF_PROG_LOAD."""

    _fields_ = (
        ("prog_type", c_uint32),
        ("insn_cnt", c_uint32),
        ("insns", c_uint64),
        ("license", c_uint64),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_uint64),
        ("kern_version", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_name", c_char * OBJ_NAME_LEN),
        ("prog_ifindex", c_uint32),
        ("expected_attach_type", c_uint32),
        ("prog_btf_fd", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("func_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("line_info", c_uint64),
        ("line_info_cnt", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("core_relo_cnt", c_uint32),
        ("fd_array", c_uint64),
        ("core_relos", c_uint64),
        ("core_relo_rec_size", c_uint32),
        ("log_true_size", c_uint32),
        ("prog_token_fd", c_int32),
        ("fd_array_cnt", c_uint32),
    )


class ObjPath(Structure):
    """BPF_OBJ_PIN and BPF_OBJ_GET."""

    _fields_ = (("pathname", c_uint64), ("bpf_fd", c_uint32), ("file_flags", c_uint32), ("path_fd", c_int32))


class ProgAttach(Structure):
    """BPF_PROG_ATTACH and BPF_PROG_DETACH."""

    _fields_ = (
        ("target_fd", c_uint32),
        ("attach_bpf_fd", c_uint32),
        ("attach_type", c_uint32),
        ("attach_flags", c_uint32),
        ("replace_bpf_fd", c_uint32),
        ("relative_fd", c_uint32),
        ("expected_revision", c_uint64),
    )


class TestRun(Structure):
    """BPF_PROG_TEST_RUN (`test` in the union)."""

    __test__ = False  # not a pytest class
    _fields_ = (
        ("prog_fd", c_uint32),
        ("retval", c_uint32),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("data_in", c_uint64),
        ("data_out", c_uint64),
        ("repeat", c_uint32),
        ("duration", c_uint32),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("ctx_in", c_uint64),
        ("ctx_out", c_uint64),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class GetId(Structure):
    """BPF_*_GET_NEXT_ID (`id` is start_id) and BPF_*_GET_FD_BY_ID."""

    _fields_ = (("id", c_uint32), ("next_id", c_uint32), ("open_flags", c_uint32), ("fd_by_id_token_fd", c_int32))


class GetInfo(Structure):
    """BPF_OBJ_GET_INFO_BY_FD (`info` in the union)."""

    _fields_ = (("bpf_fd", c_uint32), ("info_len", c_uint32), ("info", c_uint64))


class ProgQuery(Structure):
    """BPF_PROG_QUERY (`query` in the union)."""

    _fields_ = (
        ("target_fd", c_uint32),
        ("attach_type", c_uint32),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("prog_ids", c_uint64),
        ("prog_cnt", c_uint32),
        ("prog_attach_flags", c_uint64),
        ("link_ids", c_uint64),
        ("link_attach_flags", c_uint64),
        ("revision", c_uint64),
    )


class BtfLoad(Structure):
    """BPF_BTF_LOAD."""

    _fields_ = (
        ("btf", c_uint64),
        ("btf_log_buf", c_uint64),
        ("btf_size", c_uint32),
        ("btf_log_size", c_uint32),
        ("btf_log_level", c_uint32),
        ("btf_log_true_size", c_uint32),
        ("btf_flags", c_uint32),
        ("btf_token_fd", c_int32),
    )


class LinkCreate(Structure):
    """BPF_LINK_CREATE (`link_create` in the union), as far as the families that ebpfkit attaches need it."""

    _fields_ = (
        ("prog_fd", c_uint32),
        ("target_fd", c_uint32),
        ("attach_type", c_uint32),
        ("flags", c_uint32),
        ("target_btf_id", c_uint32),
        ("_pad", c_uint32),
    )


class RawTracepoint(Structure):
    """BPF_RAW_TRACEPOINT_OPEN (`raw_tracepoint` in the union)."""

    _fields_ = (("name", c_uint64), ("prog_fd", c_uint32), ("_pad", c_uint32), ("cookie", c_uint64))


class IterCreate(Structure):
    """BPF_ITER_CREATE (`iter_create` in the union)."""

    _fields_ = (("link_fd", c_uint32), ("flags", c_uint32))


class LinkUpdate(Structure):
    """BPF_LINK_UPDATE (`link_update` in the union)."""

    _fields_ = (("link_fd", c_uint32), ("new_prog_fd", c_uint32), ("flags", c_uint32), ("old_prog_fd", c_uint32))


class LinkDetach(Structure):
    """BPF_LINK_DETACH (`link_detach` in the union)."""

    _fields_ = (("link_fd", c_uint32),)


class ProgInfo(Structure):
    """struct bpf_prog_info. Pointers and their counts are input and output."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * OBJ_NAME_LEN),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32, 1),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64),
        ("jited_func_lens", c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
        ("line_info", c_uint64),
        ("jited_line_info", c_uint64),
        ("nr_jited_line_info", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", c_uint64),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
        ("verified_insns", c_uint32),
        ("attach_btf_obj_id", c_uint32),
        ("attach_btf_id", c_uint32),
    )


class MapInfo(Structure):
    """struct bpf_map_info."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", c_char * OBJ_NAME_LEN),
        ("ifindex", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("btf_id", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_id", c_uint32),
        ("map_extra", c_uint64),
    )


class LinkInfo(Structure):
    """struct bpf_link_info. `ifindex` holds for XDP, TCX and netkit links, where it is the union's first word."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("_pad", c_uint32),
        ("ifindex", c_uint32),
        ("attach_type", c_uint32),
        ("_rest", c_uint32 * 10),
    )


class BtfInfo(Structure):
    """struct bpf_btf_info."""

    _fields_ = (
        ("btf", c_uint64),
        ("btf_size", c_uint32),
        ("id", c_uint32),
        ("name", c_uint64),
        ("name_len", c_uint32),
        ("kernel_btf", c_uint32),
    )
