// What an aya program is once its macros are gone: maps as `bpf_map_def` in section "maps", programs by link_section.
// No crate is needed: the little of `core` that it uses is here.
#![feature(no_core, lang_items, intrinsics, rustc_attrs, arbitrary_self_types, auto_traits)]
#![no_core]
#![no_std]
#![allow(internal_features, dead_code)]
#![crate_type = "lib"]

#[lang = "pointee_sized"]
pub trait PointeeSized {}
#[lang = "meta_sized"]
pub trait MetaSized: PointeeSized {}
#[lang = "sized"]
pub trait Sized: MetaSized {}
#[lang = "copy"]
pub trait Copy {}
#[lang = "sync"]
pub unsafe auto trait Sync {}
#[lang = "freeze"]
pub unsafe auto trait Freeze {}
#[lang = "destruct"]
pub trait Destruct {}
#[lang = "legacy_receiver"]
pub trait LegacyReceiver {}
impl<T: PointeeSized> Copy for *const T {}
impl<T: PointeeSized> Copy for *mut T {}
impl Copy for u32 {}
impl Copy for u64 {}
impl Copy for i64 {}
impl Copy for usize {}
#[lang = "eq"]
pub trait PartialEq<Rhs = Self> {
    fn eq(&self, other: &Rhs) -> bool;
    fn ne(&self, other: &Rhs) -> bool;
}
impl PartialEq for u64 {
    fn eq(&self, other: &u64) -> bool { *self == *other }
    fn ne(&self, other: &u64) -> bool { *self != *other }
}
#[lang = "add"]
pub trait Add<Rhs = Self> {
    type Output;
    fn add(self, rhs: Rhs) -> Self::Output;
}
impl Add for u64 {
    type Output = u64;
    fn add(self, rhs: u64) -> u64 { self + rhs }
}

#[lang = "drop_glue"]
unsafe fn drop_glue<T: PointeeSized>(_: *mut T) {}

#[repr(C)]
pub struct bpf_map_def {
    type_: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    id: u32,
    pinning: u32,
}
#[repr(transparent)]
pub struct Map(bpf_map_def);
unsafe impl Sync for Map {}

#[unsafe(link_section = "maps")]
#[unsafe(export_name = "SEEN")]
pub static SEEN: Map = Map(bpf_map_def {
    type_: 2, key_size: 4, value_size: 8, max_entries: 16, map_flags: 0, id: 0, pinning: 0,
});
#[unsafe(no_mangle)]
pub static LIMIT: u64 = 7;

#[repr(C)]
pub struct xdp_md {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

#[rustc_intrinsic]
pub unsafe fn volatile_load<T>(src: *const T) -> T;
#[rustc_intrinsic]
pub unsafe fn transmute<Src, Dst>(src: Src) -> Dst;

type Lookup = extern "C" fn(*const Map, *const u32) -> *mut u64;

// A type whose name is none in C.
#[repr(C)]
pub struct Pair<T> {
    first: T,
    second: T,
}

#[inline(never)]
fn limit(pair: &Pair<u64>) -> u64 {
    unsafe { volatile_load(&LIMIT) + pair.first + pair.second }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp")]
pub extern "C" fn count(ctx: *mut xdp_md) -> u32 {
    unsafe {
        let queue: u32 = (*ctx).rx_queue_index;
        let lookup: Lookup = transmute(1usize);
        let found = lookup(&SEEN, &queue);
        if transmute::<*mut u64, u64>(found) != 0 {
            *found = *found + limit(&Pair { first: 1, second: 2 });
        }
    }
    2
}

#[unsafe(link_section = "license")]
#[unsafe(export_name = "_license")]
pub static LICENSE: [u8; 4] = [71, 80, 76, 0];
