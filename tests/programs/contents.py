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


_PREPARE: dict[str, Callable[[Any], None]] = {
    "firewall": _firewall,
    "steer": _steer,
    "vlan": _vlan,
    "ipip_lb": _ipip_lb,
    "bucket": _bucket,
    "gre_decap": _gre_decap,
    "vxlan_decap": _vxlan_decap,
}


def prepare(name: str, module: ModuleType) -> None:
    """Fill the maps of a program's module; one that needs nothing stays as it is."""
    if name in _PREPARE:
        _PREPARE[name](module)
