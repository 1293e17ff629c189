"""Look through VXLAN and count inner sources by network identifier."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"


class VXLAN(bpf.Header):
    flags: u32 = bpf.bits(8)
    reserved: u32 = bpf.bits(24)
    vni: u32 = bpf.bits(24)
    reserved2: u32 = bpf.bits(8)


class Tenant(bpf.Struct, padding=True):
    vni: u32
    src: IPv4Addr
    mac: MAC


tenants = bpf.LruPerCpuHash[Tenant, u64](max_entries=1024)


@bpf.xdp(short=bpf.XDP_PASS)
def vxlan_inner(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    outer = pkt.read(IPv4)
    if outer.protocol != IPPROTO_UDP or pkt.read(UDP).dest != 4789:
        return bpf.XDP_PASS
    vxlan = pkt.read(VXLAN)
    if not vxlan.flags & 0x08:
        return bpf.XDP_DROP
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    inner = pkt.read(IPv4)
    tenant = Tenant(vni=vxlan.vni, src=inner.src, mac=eth.src)
    count = tenants.get(tenant)
    if count is None:
        tenants[tenant] = 1
    else:
        tenants[tenant] = count + 1
    return bpf.XDP_PASS
