"""Tests of ebpfkit.dsl."""
