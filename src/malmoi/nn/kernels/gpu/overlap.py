"""A kernel that begins while the one before it ends: on GPUs that can, launches overlap.

Between two kernels a GPU idles for about a microsecond, and a step of decoding has hundreds. From Hopper on a kernel
may be launched when the last programs of the one before have begun (CUDA's programmatic dependent launch); it reads
what it alone knows of, such as weights, and waits for the rest. Place in the flow: every kernel of this package that
runs in such steps. Read next: `product.py`, which has weights to read meanwhile.
"""

from functools import cache
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl


@cache
def can_overlap(device: torch.device) -> bool:
    """Whether the GPU knows these launches."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def launch_options(device: torch.device) -> dict[str, Any]:
    """For each launch: what the kernel is told, and what the launcher."""
    return {"OVERLAPS": True, "launch_pdl": True} if can_overlap(device) else {"OVERLAPS": False}


@triton.jit
@no_type_check
def wait(OVERLAPS: tl.constexpr):
    """Let the next kernel be launched, and wait until the one before is done: nothing it wrote may be read earlier."""
    if OVERLAPS:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
