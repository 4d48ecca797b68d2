"""Kernels: a readable reference beside each fast path, same signature, proven equal by tests."""
