"""What is said and what computes: `AttentionRule` and `attend`.

`attend(q, key_values, rule)` picks the kernel; `kernels/reference.py` is the same function written as
mathematics, and `tests/nn/test_attend.py` proves the two equal. Read next: `kernels/rows.py` (rows of one
length), `kernels/ragged.py` (packed sequences), `kernels/paged.py` (in a pool), `attention.py` (who calls this).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.nn.cache import KeyValues, PagedView, Rows
from malmoi.nn.kernels.paged import paged_attention
from malmoi.nn.kernels.ragged import ragged_attention
from malmoi.nn.kernels.rows import rows_attention

ScoreBias = Callable[[int, int], Float[Tensor, "N T S"]]
"""What is added to the scores of T queries, the last of S positions, over those S keys (`relative.RelativeBias`)."""


@dataclass(frozen=True, kw_only=True)
class AttentionRule:
    """Who may look at whom, and what happens to a score before the softmax.

    A causal query sees itself and what came before; with a `window` only itself and the `window - 1` positions
    before it (Mistral, arXiv:2310.06825, section 2), or, not causal, as many on both sides. `scale=None` means
    1 / sqrt(head_dim). `soft_cap` bends a score s to cap * tanh(s / cap), so that none is larger (Gemma 2,
    arXiv:2408.00118, section 2). Raises ConfigError for a window without a position and a cap that is not above 0.

    >>> AttentionRule().scale_for(head_dim=64)
    0.125
    """

    is_causal: bool = True
    window: int | None = None
    scale: float | None = None
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ConfigError(
                f"window={self.window}: a query sees itself at least. Use 1 or more, or None to see all."
            )
        if self.soft_cap is not None and not self.soft_cap > 0:
            raise ConfigError(
                f"soft_cap={self.soft_cap} is not above 0. Gemma 2 has 50.0; None bends nothing."
            )

    def scale_for(self, head_dim: int) -> float:
        return head_dim**-0.5 if self.scale is None else self.scale


def attend(
    q: Float[Tensor, "B T N H"], key_values: KeyValues, rule: AttentionRule, bias: ScoreBias | None = None
) -> Float[Tensor, "B T N Hv"]:
    """Softmax attention of `q` over the keys and values that it may see (arXiv:1706.03762, section 3.2.1).

    Heads are grouped: query head n reads key head n // (N / K) (arXiv:2305.13245, section 2.2). With a cache the
    T queries are the last T positions of their sequence, so what a query sees is counted from the end. Computed in
    the precision of `q`, whatever that of the cache.

    >>> rows = Rows(k=torch.zeros(1, 2, 1, 1), v=torch.tensor([1.0, 3.0]).view(1, 2, 1, 1))
    >>> attend(torch.ones(1, 2, 1, 1), rows, AttentionRule()).flatten()   # itself; the mean of both
    tensor([1., 2.])
    """
    said: Any = {
        "is_causal": rule.is_causal,
        "scale": rule.scale_for(q.shape[-1]),
        "window": rule.window,
        "soft_cap": rule.soft_cap,
        "bias": bias,
    }
    if isinstance(key_values, PagedView):
        return paged_attention(q, key_values, **said)
    k, v = key_values.k.to(q.dtype), key_values.v.to(q.dtype)
    if isinstance(key_values, Rows):
        return rows_attention(q, k, v, **said)
    return ragged_attention(q, k, v, key_values.query_offsets, key_values.key_offsets, **said)
