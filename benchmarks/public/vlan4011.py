"""Drop, change or remove a VLAN tag: the XDP programs of tools/testing/selftests/bpf/progs/test_xdp_vlan.c."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, u32
from ebpfkit.net import ETH_P_8021AD, ETH_P_8021Q, VLAN, Ethernet

LICENSE = "GPL"
TESTVLAN = 4011


class Head(bpf.Header):
    """An Ethernet header with room for two tags, which all of them want."""

    eth: Ethernet
    outer: VLAN
    inner: VLAN

    @property
    def is_tagged(self) -> bool:
        return self.eth.type in (ETH_P_8021Q, ETH_P_8021AD)


class Moved(bpf.Header):
    """The two addresses, four bytes further on."""

    gone: u32
    dst: MAC
    src: MAC


@bpf.xdp
def drop_vlan(pkt: Packet) -> bpf.XdpAction:
    head = pkt.read(Head)
    return bpf.XDP_ABORTED if head.is_tagged and head.outer.vlan_id == TESTVLAN else bpf.XDP_PASS


@bpf.xdp
def change_vlan(pkt: Packet) -> bpf.XdpAction:
    head = pkt.read(Head)
    if head.is_tagged and head.outer.vlan_id == TESTVLAN:
        head.outer.tci = head.outer.tci.to_host() & 0xF000
    return bpf.XDP_PASS


@bpf.xdp
def remove_vlan(pkt: Packet) -> bpf.XdpAction:
    moved = pkt.peek(Moved)
    head = pkt.read(Head)
    if moved is None or not head.is_tagged:
        return bpf.XDP_PASS
    moved.dst, moved.src = head.eth.dst, head.eth.src
    pkt.pop_head(bpf.sizeof(VLAN))
    return bpf.XDP_PASS
