"""Attention layers: project, rotate, store, attend, project back.

The brick names the three nouns in the order of `forward`: the context's rotation, the layer's cache (what
stores), the rule (what is said), and `attend` (what computes). Read next: `block`, `models/llama.py`.
"""

from collections.abc import Sequence
from typing import ClassVar, cast

from jaxtyping import Float
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.attend import AttentionRule, attend
from malmoi.nn.cache import CachedLayer, KeyValueSpec, LayerCache
from malmoi.nn.context import Context
from malmoi.nn.linear import Linear, SharedInput
from malmoi.nn.rope import rotate_both


class Attention(SharedInput, CachedLayer):
    """Grouped-query self-attention (Ainslie et al. 2023, arXiv:2305.13245, section 2.2).

    `num_kv_heads == num_heads` is multi-head attention, `num_kv_heads == 1` multi-query attention. `rope` names the
    rotation of the context that turns queries and keys; None leaves them as they are (GPT-2). `bias` is that of the
    projections to q, k and v, `k_bias` that of k alone where it differs (Whisper), `out_bias` of the last. What a
    family puts between projection and rotation comes in as `q_norm` and `k_norm`, modules over heads (..., N, H);
    what it adds to the scores, as `score_bias`, a module (T, S) -> (N, T, S) (`relative.RelativeBias`).

    A forward stores the keys and values of its tokens in the cache (mutates it). Raises ConfigError if the
    heads cannot be shared evenly.

    >>> attention = Attention(
    ...     hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=6, rule=AttentionRule(), rope=None
    ... )
    >>> attention.q.weight.shape, attention.k.weight.shape, attention.out.weight.shape
    (torch.Size([24, 8]), torch.Size([12, 8]), torch.Size([8, 24]))
    """

    projections: ClassVar[Sequence[str]] = ("q", "k", "v")

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        rule: AttentionRule,
        rope: str | None = "default",
        bias: bool = False,
        k_bias: bool | None = None,
        out_bias: bool = False,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        score_bias: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            divisors = ", ".join(str(n) for n in range(1, num_heads + 1) if num_heads % n == 0)
            raise ConfigError(
                f"num_heads={num_heads} is not divisible by num_kv_heads={num_kv_heads}. "
                f"Use a divisor of {num_heads} ({divisors})."
            )
        self.head_dim, self.rule, self.rope = head_dim, rule, rope
        self.cache_spec = KeyValueSpec(num_kv_heads=num_kv_heads, head_dim=head_dim, window=rule.window)
        self.q = Linear(hidden_size, num_heads * head_dim, bias=bias)
        self.k = Linear(hidden_size, num_kv_heads * head_dim, bias=bias if k_bias is None else k_bias)
        self.v = Linear(hidden_size, num_kv_heads * head_dim, bias=bias)
        self.out = Linear(num_heads * head_dim, hidden_size, bias=out_bias)
        self.q_norm = q_norm or nn.Identity()
        self.k_norm = k_norm or nn.Identity()
        self.score_bias = score_bias

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        q_BTNH, k_BSKH, v_BSKH = self.heads(x, context)
        q_BTNH, k_BSKH = self.q_norm(q_BTNH), self.k_norm(k_BSKH)
        if self.rope is not None:
            q_BTNH, k_BSKH = rotate_both(q_BTNH, k_BSKH, context.rotations[self.rope])
        cache = cast(LayerCache, context.caches[self.cache_index])  # as `cache_spec` asks for, never a state
        key_values = cache.extend(k_BSKH, v_BSKH)
        out: Tensor = self.out(attend(q_BTNH, key_values, self.rule, self.score_bias).flatten(-2))
        return out

    def heads(self, x: Float[Tensor, "B T D"], context: Context) -> Sequence[Tensor]:
        """Queries (B, T, N, H), and keys and values (B, S, K, H): those of the tokens themselves."""
        return self.project(x, self.head_dim)


class CrossAttention(Attention):
    """Attention of a decoder over its encoder's states (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3).

    The keys of `context.source` are stored as those of tokens are: in the first step there are states, later none,
    so the projections of an empty source cost nothing and the cache gives what it has. Positions are not rotated,
    and there is no order between the two sequences.

    >>> cross, states = CrossAttention(hidden_size=8, num_heads=2, head_dim=4), torch.ones(1, 5, 8)
    >>> context = Context.rows(1, 3, specs=[cross.cache_spec], source=states)
    >>> cross(torch.ones(1, 3, 8), context).shape      # three tokens look at five states
    torch.Size([1, 3, 8])
    """

    projections = ("k", "v")

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        head_dim: int,
        scale: float | None = None,
        bias: bool = False,
        k_bias: bool | None = None,
        out_bias: bool = False,
    ) -> None:
        super().__init__(
            hidden_size=hidden_size,
            num_heads=num_heads,
            num_kv_heads=num_heads,
            head_dim=head_dim,
            rule=AttentionRule(is_causal=False, scale=scale),
            rope=None,
            bias=bias,
            k_bias=k_bias,
            out_bias=out_bias,
        )
        self.cache_spec = KeyValueSpec(num_kv_heads=num_heads, head_dim=head_dim, is_of_source=True)

    def heads(self, x: Float[Tensor, "B T D"], context: Context) -> Sequence[Tensor]:
        assert context.source is not None, "a decoder that attends to a source needs Context(source=...)"
        q_BTNH = self.q(x).unflatten(-1, (-1, self.head_dim))
        return q_BTNH, *self.project(context.source, self.head_dim)


def head_width(hidden_size: int, num_heads: int) -> int:
    """The width of a head where the family says nothing else, `hidden_size / num_heads`.

    Raises ConfigError if that is not a whole number.

    >>> head_width(768, 12)
    64
    """
    if hidden_size % num_heads:
        raise ConfigError(
            f"hidden_size={hidden_size} is not divisible by num_heads={num_heads}. "
            f"Use a multiple of {num_heads}, such as {-(-hidden_size // num_heads) * num_heads}."
        )
    return hidden_size // num_heads
