/* The internet checksum for the C twins; what ebpfkit.net has for the programs in Python. */
#pragma once
#include <linux/types.h>
#include <bpf/bpf_endian.h>

static __always_inline __sum16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The checksum `check` after a 16-bit word that it covers changed (RFC 1624, equation 3). */
static __always_inline __sum16 csum_replace2(__sum16 check, __be16 from, __be16 to)
{
	return csum_fold((__u16)~check + (__u16)~from + to);
}

static __always_inline __sum16 csum_replace4(__sum16 check, __be32 from, __be32 to)
{
	return csum_fold((__u16)~check + (~from >> 16) + (~from & 0xffff) + (to >> 16) + (to & 0xffff));
}
