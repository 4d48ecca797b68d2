"""Which precision this machine multiplies fast: what `precision=auto` means. Read next: `loop.py`."""

import sys
from functools import cache
from pathlib import Path
from typing import Literal

import torch


def resolve_precision(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> torch.dtype | None:
    """The activations' dtype for mixed precision, or None for fp32 throughout."""
    if precision == "auto":
        if device.type == "cuda":
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has_bf16 = _cpu_multiplies_bf16()
        precision = "bf16" if has_bf16 else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


@cache
def _cpu_multiplies_bf16() -> bool:
    """Whether the processor has bf16 dot products (AVX-512 BF16, AMX, or Arm's BF16): emulation is slower than fp32."""
    if not sys.platform.startswith("linux"):
        return False
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
