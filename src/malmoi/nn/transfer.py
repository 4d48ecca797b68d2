"""From the CPU to where a model computes, without waiting for what computes there.

A plain copy to a GPU waits until all that was asked of it before is done, and what is asked next starts late. Place in
the flow: `context.py` sends places, `train/forward.py` tokens, `train/losses.py` targets.
"""

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device | str) -> Tensor:
    """`x` on `device`: to a GPU through pinned memory, in the order of what is asked of it; the caller goes on at once.

    >>> x = torch.tensor([1, 2])
    >>> send(x, "cpu") is x
    True
    """
    if torch.device(device).type != "cuda" or not x.is_cpu:
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)
