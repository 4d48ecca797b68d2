"""Relative position bias: a learned number for each head and distance, added to the scores.

Place in the flow: a family injects it into its attention layers (`Attention(score_bias=...)`), and `attend` hands it
to a kernel. Read next: `models/t5.py`, whose layers share one.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.embedding import table


class RelativeBias(nn.Module):
    """T5's buckets (Raffel et al. 2020, arXiv:1910.10683, section 2.1): exact when near, logarithmic when far.

    Half of the buckets are one distance each, the others grow up to `max_distance`, and the last holds all that is
    further. An encoder (`is_bidirectional`) has a set for what lies ahead and one for what lies behind.

    A bias depends on the distance alone, so one row of T + S numbers a head holds all of it. Raises ConfigError if no
    distance has a bucket of its own, or all up to `max_distance` have.

    >>> bias = RelativeBias(num_heads=1, num_buckets=8, max_distance=16, is_bidirectional=False)
    >>> bias.buckets(torch.tensor([0, -1, -3, -4, -7, -99]))
    tensor([0, 1, 3, 4, 5, 7])
    >>> bias(2, 3).shape
    torch.Size([1, 2, 3])
    """

    def __init__(
        self, *, num_heads: int, num_buckets: int, max_distance: int, is_bidirectional: bool
    ) -> None:
        super().__init__()
        num_exact = num_buckets // 4 if is_bidirectional else num_buckets // 2
        if not 1 <= num_exact < max_distance:
            raise ConfigError(
                f"{num_buckets=} with {max_distance=} leaves {num_exact} distances with a bucket of their own. There "
                "has to be one or more, and fewer than max_distance: T5 has 32 buckets up to a distance of 128."
            )
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.is_bidirectional = is_bidirectional
        self.table = table(num_buckets, num_heads)

    def forward(self, num_queries: int, num_keys: int) -> Float[Tensor, "N T S"]:
        """What to add to the scores of queries that are the last `num_queries` of `num_keys` positions."""
        device = self.table.weight.device
        distances = torch.arange(-num_keys + 1, num_queries, device=device)
        of_distance_NR: Tensor = self.table(
            self.buckets(distances)
        ).T.contiguous()  # as the fused kernel wants
        # Row t begins at the distance from query t to key 0, one less for each further query.
        return of_distance_NR.unfold(1, num_keys, 1).flip(1)

    def buckets(self, distances: Int[Tensor, " R"]) -> Int[Tensor, " R"]:
        """The bucket of each distance, a key's position minus its query's."""
        num_buckets, first = self.num_buckets, torch.zeros_like(distances)
        if self.is_bidirectional:
            num_buckets //= 2
            first = (distances > 0) * num_buckets
            distances = distances.abs()
        else:
            distances = (-distances).clamp(min=0)
        num_exact = num_buckets // 2
        # In this order: where a bucket ends at a whole distance, another order rounds to the other side.
        how_far = (distances.clamp(min=1) / num_exact).log() / math.log(self.max_distance / num_exact)
        far = num_exact + (how_far * (num_buckets - num_exact)).long()
        return first + torch.where(distances < num_exact, distances, far.clamp(max=num_buckets - 1))
