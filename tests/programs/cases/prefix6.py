"""Allow only listed IPv6 prefixes, each with its own verdict and counter."""

import ebpfkit as bpf
from ebpfkit import IPv6Addr, Packet, XdpAction, u64
from ebpfkit.net import ETH_P_IPV6, Ethernet, IPv6

LICENSE = "GPL"


class Rule(bpf.Struct):
    action: XdpAction
    hits: u64


rules = bpf.LpmTrie[IPv6Addr, Rule](max_entries=1024)
rules["2001:db8::/32"] = Rule(action=bpf.XDP_PASS, hits=0)
rules["2001:db8:bad::/48"] = Rule(action=bpf.XDP_DROP, hits=0)
rules["2001:db8:bad::1/128"] = Rule(action=bpf.XDP_TX, hits=0)


@bpf.xdp(short=bpf.XDP_DROP)
def prefix6(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IPV6:
        return bpf.XDP_PASS
    rule = rules.get(pkt.read(IPv6).src)
    if rule is not None:
        rule.hits.atomic_add(1)
    return rule.action if rule is not None else bpf.XDP_DROP
