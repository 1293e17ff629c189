"""Drop large UDP answers of protocols that are used to amplify, unless the source is trusted."""

import ebpfkit as bpf
from ebpfkit import Packet, u8, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"
AMPLIFIERS = {17: "qotd", 19: "chargen", 53: "dns", 123: "ntp", 389: "cldap", 1900: "ssdp", 11211: "memcached"}
SUSPECTS = tuple(AMPLIFIERS)
LARGE = 60

trusted = bpf.LpmTrie[IPv4Addr, u8](max_entries=100)
trusted["192.0.2.0/25"] = 1
drops = bpf.Hash[u32, u64](max_entries=len(SUSPECTS))
for _port in SUSPECTS:
    drops[_port] = 0


@bpf.xdp(short=bpf.XDP_DROP)
def amplification(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_UDP:
        return bpf.XDP_PASS
    udp = pkt.read(UDP)
    if udp.source not in SUSPECTS or udp.length <= LARGE:
        return bpf.XDP_PASS
    if ip.src in trusted:
        return bpf.XDP_PASS
    drops[udp.source.to_host()] += 1
    return bpf.XDP_DROP
