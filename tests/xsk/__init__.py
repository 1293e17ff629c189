"""Tests of ebpfkit.xsk."""
