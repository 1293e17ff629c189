#include "bpf.h"

#define CORE __attribute__((preserve_access_index))

struct xdp_rxq_info { __u32 queue_index; } CORE;
struct xdp_buff { void *data; struct xdp_rxq_info *rxq; __u32 frame_sz; } CORE;
struct xdp_buff___gone { int nothing_like_this; } CORE;
enum xdp_action { XDP_ACTION_X = 1 };

SEC("fentry/func") int trace(__u64 *args)
{
    struct xdp_buff *buff = (void *)args[0];
    __u32 sum = buff->rxq->queue_index + buff->frame_sz;

    sum += __builtin_preserve_field_info(((struct xdp_buff *)0)->frame_sz, 0);                /* byte offset */
    sum += __builtin_preserve_field_info(((struct xdp_buff___gone *)0)->nothing_like_this, 2); /* exists: 0 */
    sum += __builtin_preserve_field_info(((struct xdp_buff *)0)->rxq, 2);                      /* exists: 1 */
    sum += __builtin_preserve_field_info(((struct xdp_buff *)0)->rxq, 1);                      /* byte size */
    sum += __builtin_preserve_type_info(*(struct xdp_buff *)0, 0);                             /* type exists */
    sum += __builtin_preserve_type_info(*(struct xdp_buff *)0, 1);                             /* type size */
    return sum;
}

char _license[] SEC("license") = "GPL";
