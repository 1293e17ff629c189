"""First kernels of network drivers' XDP features, by driver name, and the largest MTU without multi-buffer.

"" means not at all, "?" that nobody wrote it down. The running kernel's own answer (the netdev family) goes before this
table, which is for kernels that have none and for planning.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi.model import DriverSpec

__all__ = ["DRIVERS"]

_ROWS = (
    DriverSpec("mlx4_en", "4.8", max_mtu=3498),
    DriverSpec("mlx5_core", "4.9", "5.18", "5.3", 3498),
    DriverSpec("virtio_net", "4.10", "6.3", "6.11", 3506, "transmit and redirect need spare queues per CPU"),
    DriverSpec("nfp", "4.10", "", "5.18", 4096, "can run programs on the card (mode hw)"),
    DriverSpec("qede", "4.10"),
    DriverSpec("bnxt_en", "4.11", "5.19", "", 3502),
    DriverSpec("ixgbe", "4.12", "", "4.20", 3050, "transmit and redirect need spare queues per CPU"),
    DriverSpec("nicvf", "4.12"),
    DriverSpec("i40e", "4.13", "6.4", "4.20", 3046, "transmit and redirect need spare queues per CPU"),
    DriverSpec("tun", "4.14", max_mtu=1500),
    DriverSpec("netdevsim", "", note="offload only, for tests (4.16)"),
    DriverSpec("ixgbevf", "4.17"),
    DriverSpec("veth", "4.19", "5.18", "", 3520, "as a redirect target its peer needs an XDP program or GRO"),
    DriverSpec("fsl_dpaa2_eth", "5.0", "", "6.2"),
    DriverSpec("netsec", "5.3", max_mtu=1500),
    DriverSpec("cpsw", "5.3"),
    DriverSpec("sfc", "5.5"),
    DriverSpec("ice", "5.5", "6.3", "5.5", 3046, "transmit and redirect need spare queues per CPU"),
    DriverSpec("mvneta", "5.5", "5.18", "", 3520),
    DriverSpec("ena", "5.6", "", "", 3498, "transmit and redirect need spare queues per CPU"),
    DriverSpec("hv_netvsc", "5.6", max_mtu=3506),
    DriverSpec("mvpp2", "5.9"),
    DriverSpec("xen-netfront", "5.9"),
    DriverSpec("igb", "5.10", "", "6.14", 3046),
    DriverSpec("fsl_dpaa_eth", "5.11"),
    DriverSpec("igc", "5.13", "", "5.14", 1500),
    DriverSpec("stmmac", "5.13", "", "5.13", 1500),
    DriverSpec("fsl_enetc", "5.13"),
    DriverSpec("bonding", "5.15", note="follows its lower devices"),
    DriverSpec("rvu_nicpf", "5.16", max_mtu=1508),
    DriverSpec("mana", "5.17", max_mtu=3506),
    DriverSpec("funeth", "5.18"),
    DriverSpec("atlantic", "5.19", "5.19", "", 2048),
    DriverSpec("mtk_eth_soc", "6.0"),
    DriverSpec("fec", "6.2"),
    DriverSpec("lan966x", "6.2"),
    DriverSpec("tsnep", "6.3", "", "6.4"),
    DriverSpec("gve", "6.4", "", "6.4", 2032),
    DriverSpec("vmxnet3", "6.6", "", "", 3494),
    DriverSpec("ionic", "6.9", "6.9"),
    DriverSpec("am65-cpsw-nuss", "6.10"),
    DriverSpec("e1000", "", note="generic mode only"),
    DriverSpec("e1000e", "", note="generic mode only"),
)

DRIVERS: Mapping[str, DriverSpec] = MappingProxyType({row.name: row for row in _ROWS})
"""Every driver by the name that ethtool -i shows."""
