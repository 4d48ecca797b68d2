"""Who may see whom, as a mask: the one place where causality and windows are spelled out.

Place in the flow: every kernel asks here, also the reference. Read next: `reference.py`.
"""

import torch
from jaxtyping import Bool
from torch import Tensor


def visibility(
    num_queries: int,
    num_keys: int,
    *,
    is_causal: bool,
    window: int | None,
    device: torch.device,
    num_ahead: int = 0,
) -> Bool[Tensor, "T S"]:
    """True where query t may see key s; the last query stands `num_ahead` keys before the last key.

    >>> visibility(2, 4, is_causal=True, window=None, device=torch.device("cpu")).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    >>> visibility(2, 4, is_causal=True, window=2, device=torch.device("cpu")).int()
    tensor([[0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    queries = torch.arange(num_queries, device=device) + (num_keys - num_ahead - num_queries)
    how_far_back = queries[:, None] - torch.arange(num_keys, device=device)
    is_visible = how_far_back >= 0 if is_causal else torch.ones_like(how_far_back, dtype=torch.bool)
    if window is not None:
        is_visible = is_visible & (how_far_back.abs() < window)
    return is_visible


def sees_everything(num_queries: int, num_keys: int, *, is_causal: bool, window: int | None) -> bool:
    """Whether no key is hidden from any query, so that a kernel needs no mask.

    >>> sees_everything(1, 7, is_causal=True, window=None), sees_everything(1, 7, is_causal=True, window=4)
    (True, False)
    """
    is_narrow = window is not None and window < num_keys
    return not is_narrow and (num_queries <= 1 or not is_causal)
