"""Self-attention: project, rotate, store, attend, project back.

The brick names the three nouns in the order of `forward`: the context's rotation, the layer's cache (what
stores), the rule (what is said), and `attend` (what computes). Read next: `block`, `models/llama.py`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.attend import AttentionRule, attend
from malmoi.nn.cache import CacheSpec
from malmoi.nn.context import Context
from malmoi.nn.linear import Linear
from malmoi.nn.rope import rotate


class Attention(nn.Module):
    """Grouped-query self-attention (Ainslie et al. 2023, arXiv:2305.13245, section 2.2).

    `num_kv_heads == num_heads` is multi-head attention, `num_kv_heads == 1` multi-query attention. `layer` is
    the index of its cache in the context. `rope` names the rotation of the context that turns queries and keys;
    None leaves them as they are (GPT-2). `bias` is that of the projections to q, k and v, `out_bias` of the last.

    A forward stores the keys and values of its tokens in the cache (mutates it). Raises ConfigError if the
    heads cannot be shared evenly.

    >>> attention = Attention(
    ...     0, hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=6, rule=AttentionRule(), rope=None
    ... )
    >>> attention.q.weight.shape, attention.k.weight.shape, attention.out.weight.shape
    (torch.Size([24, 8]), torch.Size([12, 8]), torch.Size([8, 24]))
    """

    def __init__(
        self,
        layer: int,
        *,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        rule: AttentionRule,
        rope: str | None = "default",
        bias: bool = False,
        out_bias: bool = False,
    ) -> None:
        super().__init__()
        if num_heads % num_kv_heads:
            divisors = ", ".join(str(n) for n in range(1, num_heads + 1) if num_heads % n == 0)
            raise ConfigError(
                f"num_heads={num_heads} is not divisible by num_kv_heads={num_kv_heads}. "
                f"Use a divisor of {num_heads} ({divisors})."
            )
        self.layer, self.head_dim, self.rule, self.rope = layer, head_dim, rule, rope
        self.cache_spec = CacheSpec(num_kv_heads=num_kv_heads, head_dim=head_dim)
        self.q = Linear(hidden_size, num_heads * head_dim, bias=bias)
        self.k = Linear(hidden_size, num_kv_heads * head_dim, bias=bias)
        self.v = Linear(hidden_size, num_kv_heads * head_dim, bias=bias)
        self.out = Linear(num_heads * head_dim, hidden_size, bias=out_bias)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        q_BTNH, k_BTKH, v_BTKH = (
            proj(x).unflatten(-1, (-1, self.head_dim)) for proj in (self.q, self.k, self.v)
        )
        if self.rope is not None:
            rotation = context.rotations[self.rope]
            q_BTNH, k_BTKH = rotate(q_BTNH, rotation), rotate(k_BTKH, rotation)
        key_values = context.caches[self.layer].extend(k_BTKH, v_BTKH)
        out: Tensor = self.out(attend(q_BTNH, key_values, self.rule).flatten(-2))
        return out


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
