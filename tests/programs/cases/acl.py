"""A list of rules walked in order: the first that matches decides."""

import ebpfkit as bpf
from ebpfkit import Packet, XdpAction, bool_, u8, u16, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_TCP, IPPROTO_UDP, TCP, UDP, Ethernet, IPv4

LICENSE = "GPL"
MOST = 16


class Rule(bpf.Struct):
    network: u32
    mask: u32
    low: u16
    high: u16
    protocol: u8
    enabled: bool_
    action: XdpAction
    hits: u64


rules = bpf.Array[Rule](max_entries=MOST)
rules[0] = Rule(network=0x0A000000, mask=0xFF000000, low=0, high=65535, protocol=0, enabled=False, action=1, hits=0)
rules[1] = Rule(network=0x0A000000, mask=0xFF000000, low=80, high=443, protocol=6, enabled=True, action=2, hits=0)
rules[2] = Rule(network=0, mask=0, low=53, high=53, protocol=17, enabled=True, action=3, hits=0)
rules[5] = Rule(network=0, mask=0, low=1024, high=65535, protocol=0, enabled=True, action=1, hits=0)


def matches(rule: Rule, src: u32, port: u16, protocol: u8) -> bool:
    return (
        rule.enabled
        and src & rule.mask == rule.network
        and rule.low <= port <= rule.high
        and (rule.protocol == 0 or rule.protocol == protocol)
    )


@bpf.xdp(short=bpf.XDP_DROP)
def acl(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    port = u16(0)
    if ip.protocol == IPPROTO_TCP:
        port = pkt.read(TCP).dest.to_host()
    elif ip.protocol == IPPROTO_UDP:
        port = pkt.read(UDP).dest.to_host()
    src = ip.src.to_host()
    for i in range(MOST):
        rule = rules[i]
        if matches(rule, src, port, ip.protocol):
            rule.hits += 1
            return rule.action
    return bpf.XDP_PASS
