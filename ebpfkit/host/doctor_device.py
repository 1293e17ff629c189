"""The doctor's checks of one device: pure functions of its facts. What they tell is for XDP and AF_XDP."""

from __future__ import annotations

from collections.abc import Callable

from ebpfkit.abi.drivers import DRIVERS
from ebpfkit.host import causes
from ebpfkit.host.facts import DeviceFacts, HostFacts
from ebpfkit.host.findings import Finding, failed, passed, warned
from ebpfkit.kernel import ethtool

__all__ = ["DEVICE_CHECKS"]

Check = Callable[[DeviceFacts, HostFacts], Finding]

_STACKED = {
    "vlan": "the device below it", "macvlan": "the device below it", "ipvlan": "the device below it",
    "bridge": "its ports", "team": "its ports", "bond": "",
}  # fmt: skip
_SPARE_QUEUES = "spare queues per CPU"


def _link(facts: DeviceFacts, _: HostFacts) -> Finding:
    name = facts.device.name
    if facts.device.up:
        return passed("link", "up")
    cause = causes.device_down(name)
    # Not applied: bringing a device up lets traffic in that its owner may not want yet.
    return failed("link", "down", "bind and send are refused (ENETDOWN)", cause.mend)


def _driver(facts: DeviceFacts, _: HostFacts) -> Finding:
    parts = [facts.driver or "unknown"]
    if facts.firmware and facts.firmware != "N/A":
        parts.append(f"firmware {facts.firmware}")
    if facts.bus:
        parts.append(f"at {facts.bus}")
    row = DRIVERS.get(facts.driver)
    if row and row.note:
        return passed("driver", ", ".join(parts), row.note)
    return passed("driver", ", ".join(parts))


def _has(facts: DeviceFacts, host: HostFacts, feature: str, netdev_name: str) -> bool | None:
    if facts.features is not None:
        return netdev_name in facts.features.xdp
    return causes.driver_supports(facts.driver, feature, host.kernel)


def _native(facts: DeviceFacts, host: HostFacts) -> Finding:
    has = _has(facts, host, "native", "basic")
    if has is None:
        return warned("native-xdp", "unknown", "neither the kernel nor the table of drivers tells: try --mode native")
    if not has:
        return warned("native-xdp", "no", "only generic mode (--mode skb), behind the stack's allocation: slow")
    return passed("native-xdp", "yes")


def _zero_copy(facts: DeviceFacts, host: HostFacts) -> Finding:
    has = _has(facts, host, "zero_copy", "xsk-zerocopy")
    if has is None:
        return warned("zero-copy", "unknown", "neither the kernel nor the table of drivers tells: mode='auto' tries it")
    if not has:
        return warned("zero-copy", "no", "AF_XDP sockets copy each packet: mode='copy' or 'auto'")
    segments = facts.features.zero_copy_segments if facts.features else 0
    if facts.features and segments <= 1:
        return passed("zero-copy", "yes", "packets of one buffer only (zero-copy segments 1)")
    return passed("zero-copy", f"yes, up to {segments} buffers" if segments else "yes")


def _redirect_target(facts: DeviceFacts, _: HostFacts) -> Finding:
    if facts.features is None:
        return passed("redirect-target", "unknown")
    if "ndo-xmit" in facts.features.xdp:
        return passed("redirect-target", "yes")
    if facts.driver == "veth":
        # An offload of the peer, which is in another namespace more often than not.
        return warned(
            "redirect-target", "no",
            "packets redirected or sent back to it are dropped unless its peer has GRO on or an XDP program",
            "ethtool -K PEER gro on",
        )  # fmt: skip
    return warned(
        "redirect-target", "no", "packets redirected to it are dropped; with some drivers an XDP program on it helps"
    )


def _metadata(facts: DeviceFacts, _: HostFacts) -> Finding:
    if facts.features is None:
        return passed("metadata", "unknown (Linux 6.3 tells)")
    received, sent = sorted(facts.features.rx_metadata), sorted(facts.features.xsk)
    return passed("metadata", f"received: {', '.join(received) or 'none'}; sent: {', '.join(sent) or 'none'}")


def _queues(facts: DeviceFacts, host: HostFacts) -> Finding:
    receiving = facts.channels.receiving if facts.channels else facts.device.rx_queues
    found = f"{receiving} receiving, {len(host.cpus)} CPUs"
    row = DRIVERS.get(facts.driver)
    if row and _SPARE_QUEUES in row.note and facts.channels and facts.channels.combined > 1:
        most = facts.channels.max_combined
        if facts.channels.combined * 2 > max(most, 1):
            half = max(1, most // 2)
            return warned(
                "queues", found, "XDP_TX and redirect need as many spare queues as there are CPUs",
                f"ethtool -L {facts.device.name} combined {half}",
            )  # fmt: skip
    if receiving > len(host.cpus):
        more = "combined" if facts.channels and facts.channels.combined else "rx"
        return warned(
            "queues", found, "more queues than CPUs: some CPU serves several",
            f"ethtool -L {facts.device.name} {more} {len(host.cpus)}",
        )  # fmt: skip
    return passed("queues", found)


def _steering(facts: DeviceFacts, _: HostFacts) -> Finding:
    receiving = facts.channels.receiving if facts.channels else facts.device.rx_queues
    if receiving <= 1:
        return passed("steering", "one queue gets everything")
    rules = [rule for rule in facts.rules or () if rule.queue is not None]
    if facts.rss is None or not facts.rss.table:
        found = f"{len(rules)} ntuple rules" if rules else "no RSS table, no ntuple rules"
        return passed("steering", found, "bind a socket to every queue (XskGroup does)")
    spread = sorted(facts.rss.queues)
    found = f"RSS over queues {', '.join(map(str, spread))}; {len(rules)} ntuple rules"
    if len(spread) < receiving:
        return passed("steering", found)
    return passed(
        "steering", found,
        f"a socket on one queue gets a share: XskGroup takes all, or `ethtool -X {facts.device.name} equal 1`, "
        f"`ethtool -N {facts.device.name} flow-type udp4 dst-port N action QUEUE`",
    )  # fmt: skip


def _mtu(facts: DeviceFacts, host: HostFacts) -> Finding:
    mtu, limit = facts.device.mtu, causes.largest_mtu(facts.driver)
    if mtu <= limit:
        return passed("mtu", str(mtu))
    frags = _has(facts, host, "frags", "rx-sg")
    if frags is False:
        cause = causes.mtu_too_large(facts.device.name, mtu, facts.driver)
        return failed("mtu", str(mtu), f"{cause.why}, and it takes no fragments", cause.mend)
    cause = causes.mtu_needs_frags(facts.device.name, mtu, facts.driver)
    return warned("mtu", str(mtu), cause.why, cause.mend)


def _offloads(facts: DeviceFacts, _: HostFacts) -> Finding:
    """Receive offloads that merge packets before XDP sees them."""
    name, known = facts.device.name, facts.offloads
    if known is None:
        return passed("merging-offloads", "unknown")
    on = [feature for feature in ("rx-lro", "rx-gro-hw") if known.get(feature)]
    if not on:
        return passed("merging-offloads", "off")

    def apply() -> None:
        for feature in on:
            ethtool.set_feature(name, feature, False)

    switches = " ".join(f"{feature} off" for feature in on)
    why = "packets are merged before XDP sees them; many drivers refuse XDP then"
    return warned("merging-offloads", f"on: {', '.join(on)}", why, f"ethtool -K {name} {switches}", apply)


def _vlan(facts: DeviceFacts, _: HostFacts) -> Finding:
    name = facts.device.name
    if not (facts.offloads or {}).get("rx-vlan-hw-parse"):
        return passed("vlan-stripping", "off" if facts.offloads else "unknown")

    def apply() -> None:
        ethtool.set_feature(name, "rx-vlan-hw-parse", False)

    why = "VLAN tags are taken off before XDP sees the packet"
    return warned("vlan-stripping", "on", why, f"ethtool -K {name} rxvlan off", apply)


def _rings(facts: DeviceFacts, _: HostFacts) -> Finding:
    rings = facts.rings
    if rings is None:
        return passed("ring-sizes", "unknown")
    found = f"rx {rings.rx} of {rings.max_rx}, tx {rings.tx} of {rings.max_tx}"
    if rings.rx < min(1024, rings.max_rx):
        # Not applied: the card is reset, and packets are lost.
        return warned(
            "ring-sizes", found, "short bursts overflow a small ring",
            f"ethtool -G {facts.device.name} rx {min(2048, rings.max_rx)}",
        )  # fmt: skip
    return passed("ring-sizes", found)


def _promiscuous(facts: DeviceFacts, _: HostFacts) -> Finding:
    name = facts.device.name
    if facts.promiscuous:
        return passed("promiscuous", "on", "packets for other stations come in too")
    return passed(
        "promiscuous", "off", f"only packets for this station; `ip link set dev {name} promisc on` for a bridge"
    )


def _attached(facts: DeviceFacts, _: HostFacts) -> Finding:
    if not facts.device.xdp.program_ids:
        return passed("attached", "nothing")
    if facts.dispatched:
        return passed(
            "attached", facts.owner, f"others join it: `ebpfkit load FILE --dev {facts.device.name} --dispatcher`"
        )
    why = "a second program is refused: replace it, or free the device"
    keyword = {"native": "xdpdrv", "skb": "xdpgeneric", "hw": "xdpoffload"}.get(facts.device.xdp.mode, "xdp")
    command = (
        f"ebpfkit unload --dev {facts.device.name}"
        if "held by link" in facts.owner
        else f"ip link set dev {facts.device.name} {keyword} off"
    )
    return warned("attached", facts.owner or "a program", why, command)


def _taken(facts: DeviceFacts, _: HostFacts) -> Finding:
    if facts.queues is None:
        return passed("taken-queues", "unknown")
    taken = [queue.id for queue in facts.queues if queue.has_xsk and queue.kind == "rx"]
    if not taken:
        return passed("taken-queues", "none")
    why = "an AF_XDP socket is bound to them; another one is refused there (EBUSY) unless it shares the UMEM"
    return warned("taken-queues", ", ".join(map(str, taken)), why)


def _interrupts(facts: DeviceFacts, host: HostFacts) -> Finding:
    if not facts.interrupt_cpus:
        return passed("interrupts", "none of its own" if facts.napis is not None else "unknown")
    used = [cpu for cpus in facts.interrupt_cpus.values() for cpu in cpus[:1]]
    found = ", ".join(f"{irq} on CPU {','.join(map(str, cpus))}" for irq, cpus in facts.interrupt_cpus.items())
    if len(used) > 1 and len(set(used)) < min(len(used), len(host.cpus)):
        irq = next(iter(facts.interrupt_cpus))
        why = "several queues are served by one CPU while others are idle (stop irqbalance first)"
        return warned("interrupts", found, why, f"echo {host.cpus[-1]} > /proc/irq/{irq}/smp_affinity_list")
    return passed("interrupts", found)


def _numa(facts: DeviceFacts, host: HostFacts) -> Finding:
    if facts.numa_node is None:
        return passed("numa", "one node, or unknown")
    away = [cpu for cpu in host.cpus if cpu not in facts.numa_cpus]
    found = f"node {facts.numa_node}, CPUs {', '.join(map(str, facts.numa_cpus))}"
    if away and facts.numa_cpus:
        local = ",".join(map(str, facts.numa_cpus))
        why = "this process may run on CPUs of another node: each packet crosses between nodes"
        return warned("numa", found, why, f"taskset -c {local} ...")
    return passed("numa", found)


def _busy_poll(facts: DeviceFacts, _: HostFacts) -> Finding:
    napi = facts.napis[0] if facts.napis else None
    defer = napi.defer_hard_irqs if napi else facts.defer_hard_irqs
    timeout = napi.gro_flush_timeout if napi else facts.gro_flush_timeout
    if defer is None or timeout is None:
        return passed("busy-poll", "unknown")
    name, found = facts.device.name, f"napi_defer_hard_irqs {defer}, gro_flush_timeout {timeout}"
    if defer and timeout:
        return passed("busy-poll", found)
    return passed(
        "busy-poll", found,
        f"busy_poll= works best with `echo 2 > /sys/class/net/{name}/napi_defer_hard_irqs` and "
        f"`echo 200000 > /sys/class/net/{name}/gro_flush_timeout`",
    )  # fmt: skip


def _stacked(facts: DeviceFacts, _: HostFacts) -> Finding:
    below = _STACKED.get(facts.device.kind)
    if below:
        why = f"packets have been through the stack already: attach to {below} for native speed"
        return warned("stacked", f"a {facts.device.kind} device", why)
    if facts.upper:
        return warned("stacked", f"a part of {facts.upper}", f"what XDP takes here, {facts.upper} does not see")
    return passed("stacked", "no")


def _namespace(facts: DeviceFacts, _: HostFacts) -> Finding:
    if facts.sysfs_matches:
        return passed("namespace", "/sys is that of this network namespace")
    why = "NUMA node and device settings in /sys cannot be read; everything that goes through netlink works"
    return warned("namespace", "/sys is that of another network namespace", why, "ip netns exec NAME ...")


DEVICE_CHECKS: tuple[Check, ...] = (
    _link, _driver, _native, _zero_copy, _redirect_target, _metadata, _queues, _steering, _mtu, _offloads, _vlan,
    _rings, _promiscuous, _attached, _taken, _interrupts, _numa, _busy_poll, _stacked, _namespace,
)  # fmt: skip
