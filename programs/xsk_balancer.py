"""Balance TCP and UDP for one address over several servers, from user space in native code: direct server return.

A flow keeps its server. The packet goes out again on the wire it came from, with the server's MAC address; each server
has the address too and answers by itself.

sudo python programs/xsk_balancer.py DEV ADDRESS SERVER_MAC...
"""

import sys
import time

import ebpfkit as bpf
from ebpfkit import Packet, be16, helpers, u8, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_TCP, IPPROTO_UDP, MAC, Ethernet, IPv4, IPv4Addr
from ebpfkit.xsk import XskGroup

LICENSE = "Dual MIT/GPL"


class Ports(bpf.Header):
    source: be16
    dest: be16


class Flow(bpf.Struct, packed=True):
    client: IPv4Addr
    source: be16
    dest: be16
    protocol: u8


class Server(bpf.Struct):
    mac: MAC
    packets: u64


sockets = bpf.XskMap(max_entries=64)  # by queue
virtual = bpf.Array[IPv4Addr](max_entries=1)
servers = bpf.Array[Server](max_entries=64)
number = bpf.Array[u32](max_entries=1)  # how many of `servers` there are
flows = bpf.LruHash[Flow, u32](max_entries=65536)


@bpf.xdp(short=bpf.XDP_PASS)
def steer(pkt: Packet) -> bpf.XdpAction:
    """In the kernel: what is for the address goes to the sockets."""
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    if pkt.read(IPv4).dst != virtual[0]:
        return bpf.XDP_PASS
    return sockets.redirect(pkt.rx_queue_index, otherwise=bpf.XDP_PASS)


@bpf.xdp(short=bpf.XDP_DROP)
def balance(pkt: Packet) -> bpf.XdpAction:
    """At the sockets: the server of the flow, a random one for a new flow."""
    eth = pkt.read(Ethernet)
    ip = pkt.read(IPv4)
    if (ip.protocol != IPPROTO_TCP and ip.protocol != IPPROTO_UDP) or ip.fragment_offset != 0:
        return bpf.XDP_DROP
    ports = pkt.read(Ports)
    flow = Flow(client=ip.src, source=ports.source, dest=ports.dest, protocol=ip.protocol)
    chosen = u32(0)
    known = flows.get(flow)
    if known is not None:
        chosen = known
    else:
        available = number[0]
        if available == 0:
            return bpf.XDP_DROP
        chosen = helpers.get_prandom_u32() % available
        flows[flow] = chosen
    server = servers[chosen]
    server.packets += 1
    eth.src = eth.dst
    eth.dst = server.mac
    return bpf.XDP_TX


def main(device: str, address: str, macs: list[str]) -> None:
    virtual[0] = IPv4Addr(address)
    for place, mac in enumerate(macs):
        servers[place] = Server(mac=MAC(mac), packets=u64(0))
    number[0] = len(macs)
    with XskGroup(device, program=steer, frame_size=2048) as group, group.run(balance) as running:
        print(f"balancing {address} over {len(macs)} servers on {device}; Ctrl-C ends", flush=True)
        try:
            time.sleep(1e9)
        except KeyboardInterrupt:
            for place, mac in enumerate(macs):
                print(f"{mac}: {servers[place].packets} packets")
            print(f"{running.counters.dropped} dropped, {len(flows)} flows")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
