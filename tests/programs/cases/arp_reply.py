"""Answer ARP requests for the addresses in a table."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet
from ebpfkit.net import ARP, ARP_REPLY, ARP_REQUEST, ETH_P_ARP, Ethernet, IPv4Addr

LICENSE = "GPL"
owners = bpf.Hash[IPv4Addr, MAC](max_entries=64)
owners[IPv4Addr("10.0.0.2")] = MAC("02:aa:bb:cc:dd:01")


@bpf.xdp(short=bpf.XDP_PASS)
def arp_reply(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_ARP:
        return bpf.XDP_PASS
    arp = pkt.read(ARP)
    if arp.operation != ARP_REQUEST:
        return bpf.XDP_PASS
    mac = owners.get(arp.target_ip)
    if mac is None:
        return bpf.XDP_PASS
    arp.operation = ARP_REPLY
    arp.target_mac = arp.sender_mac
    arp.sender_mac = mac
    arp.sender_ip, arp.target_ip = arp.target_ip, arp.sender_ip
    eth.dst, eth.src = eth.src, mac
    return bpf.XDP_TX
