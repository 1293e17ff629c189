"""Tests of ebpfkit.net."""
