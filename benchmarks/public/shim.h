/* What sources of the kernel's tree expect from headers of its own, for the programs that benchmarks/public.py fetches. */
#pragma once
#include <linux/types.h>
#include <linux/if_ether.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define AF_INET 2
#define AF_INET6 10
#define cpu_to_be32 bpf_htonl
#define htons bpf_htons
#define ntohs bpf_ntohs
#define max(a, b) ((a) > (b) ? (a) : (b))
#define memcpy __builtin_memcpy
#define memset __builtin_memset
#define unlikely(x) __builtin_expect(!!(x), 0)
#define __force
