"""Tests of ebpfkit.asm."""
