"""Count packets by receive queue, and do with them what a map says: samples/bpf/xdp_rxq_info_kern.c."""

import ebpfkit as bpf
from ebpfkit import Packet, s32, u32, u64
from ebpfkit.net import Ethernet

LICENSE = "GPL"
READ_MEM, SWAP_MAC = 1, 2
MAX_RXQS = 64


class Config(bpf.Struct):
    action: bpf.XdpAction
    ifindex: s32
    options: u32


class Record(bpf.Struct):
    processed: u64
    issue: u64


config_map = bpf.Array[Config](max_entries=1)
totals = bpf.PerCpuArray[Record](max_entries=1, name="stats_global_ma")
queues = bpf.PerCpuArray[Record](max_entries=MAX_RXQS + 1, name="rx_queue_index_")

config_map[0] = Config(action=bpf.XDP_TX, ifindex=1, options=SWAP_MAC)


@bpf.xdp
def rxq_info(pkt: Packet) -> bpf.XdpAction:
    total = totals[0]
    total.processed += 1
    config = config_map[0]
    if s32(pkt.ingress_ifindex) != config.ifindex:
        total.issue += 1
        return bpf.XDP_ABORTED
    queue = min(pkt.rx_queue_index, u32(MAX_RXQS))
    record = queues[queue]
    record.processed += 1
    if queue == MAX_RXQS:
        record.issue += 1
    if config.options & (READ_MEM | SWAP_MAC):
        eth = pkt.read(Ethernet)
        if eth.type < 0x600:
            return bpf.XDP_ABORTED
        if config.options & SWAP_MAC:
            eth.dst, eth.src = eth.src, eth.dst
    return config.action
