"""Multi-head latent attention: what is kept of a token is one short vector, from which all heads are made.

Keys and values of a head are matrices times the token's latent. Two forms, equal on paper and by test:

    expanded   make keys and values of all heads, attend as ever            whole sequences: training, prompts
    absorbed   take the queries into the space of the latents instead, attend there with one key head that all
               query heads share, bring the result back                     few queries over many cached tokens

Place in the flow: stands in a block where `attention.Attention` would. Read next: `models/deepseek.py`.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.nn.attend import AttentionRule, attend
from malmoi.nn.cache import CachedLayer, KeyValueSpec, LayerCache, PagedView, Ragged, Rows
from malmoi.nn.context import Context
from malmoi.nn.linear import Linear
from malmoi.nn.norm import RMSNorm
from malmoi.nn.rope import rotate_neighbours

NORM_EPS = 1e-6
"""Of the norms over latents, whatever that of the residual stream is."""


class LowRank(nn.Module):
    """`expand(norm(compress(x)))`: a projection through `rank` numbers."""

    def __init__(self, in_size: int, rank: int, out_size: int, *, bias: bool) -> None:
        super().__init__()
        self.compress = Linear(in_size, rank, bias=bias)
        self.norm = RMSNorm(rank, eps=NORM_EPS)
        self.expand = Linear(rank, out_size, bias=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T O"]:
        out: Tensor = self.expand(self.norm(self.compress(x)))
        return out


class Expansion(Linear):
    """What makes the keys and values of all heads from a latent.

    The absorbed form multiplies by its matrix from the other side, so this projection is never packed: unpacking it in
    each step would cost more than it saves.
    """


class LatentAttention(CachedLayer):
    """Attention over latents (DeepSeek-AI 2024, arXiv:2405.04434, section 2.1).

    A head's query and key have a part of `content_dim` that comes out of the latent and a part of `rope_dim` that is
    rotated, since a rotation between the two matrices could not be absorbed; the rotated part of the key is one for
    all heads. What is cached of a token is its normalised latent of `kv_rank` numbers and that part, a single key
    head without values: the values are the key's first `kv_rank` numbers. `query_rank` compresses queries as well,
    which saves memory in training; None does not. `bias` is that of the first projections and the last.

    The form is chosen by what it multiplies (`is_absorbing_cheaper`). A forward stores what its tokens are kept by
    in the cache (mutates it).

    >>> attention = LatentAttention(
    ...     hidden_size=8, num_heads=4, content_dim=6, rope_dim=2, value_dim=5, kv_rank=3, rule=AttentionRule()
    ... )
    >>> attention.cache_spec.bytes_per_token(2)       # (3 + 2) x 2; four heads of key and value: 4 x (8 + 5) x 2 = 104
    10
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        content_dim: int,
        rope_dim: int,
        value_dim: int,
        kv_rank: int,
        rule: AttentionRule,
        query_rank: int | None = None,
        rope: str = "default",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads, self.kv_rank, self.rope = num_heads, kv_rank, rope
        self.content_dim, self.rope_dim, self.value_dim = content_dim, rope_dim, value_dim
        self.rule = replace(rule, scale=rule.scale_for(content_dim + rope_dim))  # in both forms
        self.cache_spec = KeyValueSpec(
            num_kv_heads=1, head_dim=kv_rank + rope_dim, value_dim=0, window=rule.window
        )
        query_size = num_heads * (content_dim + rope_dim)
        self.q = (
            Linear(hidden_size, query_size, bias=False)
            if query_rank is None
            else LowRank(hidden_size, query_rank, query_size, bias=bias)
        )
        self.latent = Linear(hidden_size, kv_rank + rope_dim, bias=bias)
        self.latent_norm = RMSNorm(kv_rank, eps=NORM_EPS)
        self.expand = Expansion(kv_rank, num_heads * (content_dim + value_dim), bias=False)
        self.out = Linear(num_heads * value_dim, hidden_size, bias=bias)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        rotation = context.rotations[self.rope]
        q_BTNH = self.q(x).unflatten(-1, (self.num_heads, -1))
        content, turned = q_BTNH.split([self.content_dim, self.rope_dim], dim=-1)
        latent, shared_key = self._parts(self.latent(x)[:, :, None])
        kept = torch.cat([self.latent_norm(latent), rotate_neighbours(shared_key, rotation)], dim=-1)
        cache = context.caches[self.cache_index]
        assert isinstance(cache, LayerCache), "attention stores keys and values, not a state"
        cached = cache.extend(kept, kept[..., :0])
        if isinstance(cached, PagedView):  # both forms make something of all latents
            cached = cached.gather()
        form = self.absorbed if self.is_absorbing_cheaper(x, cached) else self.expanded
        out: Tensor = self.out(form(content, rotate_neighbours(turned, rotation), cached).flatten(-2))
        return out

    def expanded(
        self, content: Float[Tensor, "B T N Hc"], turned: Float[Tensor, "B T N Hr"], cached: Rows | Ragged
    ) -> Float[Tensor, "B T N Hv"]:
        """Make every head's keys and values, and attend."""
        latent, shared_key = self._parts(cached.k.to(content.dtype))
        heads = self.expand(latent[:, :, 0]).unflatten(-1, (self.num_heads, -1))
        key_content, v = heads.split([self.content_dim, self.value_dim], dim=-1)
        k = torch.cat([key_content, shared_key.expand(-1, -1, self.num_heads, -1)], dim=-1)
        return attend(torch.cat([content, turned], dim=-1), replace(cached, k=k, v=v), self.rule)

    def absorbed(
        self, content: Float[Tensor, "B T N Hc"], turned: Float[Tensor, "B T N Hr"], cached: Rows | Ragged
    ) -> Float[Tensor, "B T N Hv"]:
        """Multiply queries by what would make the keys, and results by what would make the values.

        q . (W_k c) = (W_k^T q) . c, and the sum over tokens of weight (W_v c) = W_v (the sum of weight c).
        """
        matrices = self.expand.matrix(content.dtype).view(self.num_heads, -1, self.kv_rank)
        to_key, to_value = torch.split(matrices, [self.content_dim, self.value_dim], dim=1)
        q = torch.cat([torch.einsum("BTNH,NHR->BTNR", content, to_key), turned], dim=-1)
        latents = attend(q, replace(cached, v=cached.k[..., : self.kv_rank]), self.rule)
        return torch.einsum("BTNR,NHR->BTNH", latents, to_value)

    def _parts(self, kept: Tensor) -> tuple[Tensor, ...]:
        """The latent, and the part of the key that all heads share."""
        return torch.split(kept, [self.kv_rank, self.rope_dim], dim=-1)

    def is_absorbing_cheaper(self, x: Float[Tensor, "B T D"], cached: Rows | Ragged) -> bool:
        """Whether the absorbed form multiplies less, for T queries over S keys in each of some sequences.

        A pair of query and key costs it 2 * kv_rank + rope_dim a head, the other form content_dim + rope_dim +
        value_dim; matrices cost kv_rank * (content_dim + value_dim) a query there, a key here. With DeepSeek-V3's
        widths that is so for up to 170 queries over many more keys, and never where nothing is cached. Packed
        sequences are counted as if all were of average length.
        """
        num_queries, num_keys = x.shape[0] * x.shape[1], cached.k.shape[0] * cached.k.shape[1]
        num_sequences = x.shape[0] if isinstance(cached, Rows) else len(cached.query_offsets) - 1
        head_width = self.content_dim + self.value_dim
        more_by_pair = num_queries * num_keys * (2 * self.kv_rank - head_width)
        return more_by_pair < (num_keys - num_queries) * self.kv_rank * head_width * num_sequences
