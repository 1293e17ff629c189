"""What user space would have put into the maps of the example programs, so that their packets find something."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ebpfkit import MAC, IPv4Addr

__all__ = ["prepare"]


def _firewall(module: Any) -> None:
    module.blocked["10.0.0.0/24"] = module.Hits.zero()


def _steer(module: Any) -> None:
    module.ports[4789] = 3
    module.ports[53] = 9


def _vlan(module: Any) -> None:
    module.allowed[20] = 1


def _ipip_lb(module: Any) -> None:
    module.services[module.Service(address=IPv4Addr("10.0.0.100"), port=80, protocol=6)] = 0
    module.services[module.Service(address=IPv4Addr("10.0.0.100"), port=53, protocol=17)] = module.RING
    for slot in range(2 * module.RING):
        module.ring[slot] = slot % 3
    for number in range(3):
        module.backends[number] = module.Backend(
            address=IPv4Addr(f"10.1.0.{number + 1}"),
            source=IPv4Addr("10.0.0.100"),
            mac=MAC(f"02:00:00:00:01:0{number}"),
            packets=0,
        )


def _bucket(module: Any) -> None:
    module.buckets[IPv4Addr("10.9.9.9")] = module.Bucket(drops=0, tokens=0, stamp=0)


def _gre_decap(module: Any) -> None:
    module.tunnels[IPv4Addr("10.0.0.1")] = 0


def _vxlan_decap(module: Any) -> None:
    module.networks[7] = module.Network(mark=0x77, packets=0)


def _iptunnel(module: Any) -> None:
    from ebpfkit import IPv6Addr

    def vip(protocol: int, port: int, family: int) -> Any:
        made = module.Vip.zero()
        made.protocol, made.dport, made.family = protocol, port, family
        if family == module.AF_INET:
            made.daddr.v4 = IPv4Addr("10.0.0.100")
        else:
            made.daddr.v6 = IPv6Addr("2001:db8::100")
        return made

    tunnel = module.Tunnel.zero()
    tunnel.saddr.v4, tunnel.daddr.v4 = IPv4Addr("10.0.0.254"), IPv4Addr("10.1.0.7")
    tunnel.family, tunnel.dmac = module.AF_INET, MAC("02:00:00:00:01:07")
    module.vip2tnl[vip(6, 80, module.AF_INET)] = tunnel
    module.vip2tnl[vip(17, 53, module.AF_INET)] = tunnel
    tunnel6 = module.Tunnel.zero()
    tunnel6.saddr.v6, tunnel6.daddr.v6 = IPv6Addr("2001:db8::fe"), IPv6Addr("2001:db8:7::7")
    tunnel6.family, tunnel6.dmac = module.AF_INET6, MAC("02:00:00:00:01:08")
    module.vip2tnl[vip(6, 80, module.AF_INET6)] = tunnel6


def _xdping(module: Any) -> None:
    info = module.Info.zero()
    info.seq, info.count = 4, 4
    module.ping_map[IPv4Addr("10.0.0.1")] = info


_PREPARE: dict[str, Callable[[Any], None]] = {
    "firewall": _firewall,
    "steer": _steer,
    "vlan": _vlan,
    "ipip_lb": _ipip_lb,
    "bucket": _bucket,
    "gre_decap": _gre_decap,
    "iptunnel": _iptunnel,
    "xdping": _xdping,
    "vxlan_decap": _vxlan_decap,
}


def prepare(name: str, module: ModuleType) -> None:
    """Fill the maps of a program's module; one that needs nothing stays as it is."""
    if name in _PREPARE:
        _PREPARE[name](module)
