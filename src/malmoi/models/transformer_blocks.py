"""The blocks of the Transformer of 2017, of parts that a family puts in.

    encoder         attention over every token                         -> network   Transformer, BART, T5, BERT, CLIP
    decoder         attention to what came before -> over the source   -> network   Transformer, BART, T5, Whisper
    decoder_alone   attention to what came before                      -> network   GPT-2

Place in the flow: a page's `build` says once which parts (norms, network, biases) and asks for as many blocks as there
are layers. Read next: `transformer.py`; `t5.py`, which puts in most.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, CrossAttention, head_width
from malmoi.nn.block import Block, Residual
from malmoi.nn.mlp import MLP, Activation


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Blocks as in figure 1 (Vaswani et al. 2017, arXiv:1706.03762), and a decoder's without a source.

    `mlp` makes a feed-forward network, `residual` adds what a sublayer computes, with a norm in its place. `biases` are
    those of attention, by the names that `Attention` has for them; `scale` is what scores are multiplied by, as in
    `AttentionRule`; `score_bias` is added to those between the tokens, and all layers share it.

    >>> from malmoi.nn.block import PreNorm
    >>> from malmoi.nn.mlp import gelu_tanh
    >>> from malmoi.nn.norm import LayerNorm
    >>> blocks = Blocks.of_2017(
    ...     hidden_size=8,
    ...     num_heads=2,
    ...     intermediate_size=32,
    ...     activation=gelu_tanh,
    ...     residual=lambda mixer: PreNorm(LayerNorm(8), mixer),
    ... )
    >>> [name for name, _ in blocks.decoder().named_children()]
    ['attention', 'cross', 'ffn']
    """

    hidden_size: int
    num_heads: int
    head_dim: int
    mlp: Callable[[], nn.Module]
    residual: Callable[[nn.Module], Residual]
    biases: Mapping[str, bool] = field(default_factory=dict)
    scale: float | None = None
    score_bias: nn.Module | None = None

    @classmethod
    def of_2017(
        cls, *, hidden_size: int, num_heads: int, intermediate_size: int, activation: Activation, **parts: Any
    ) -> "Blocks":
        """Heads that share the width evenly, and a network with biases; `parts` are the other fields.

        Raises ConfigError if the heads cannot.
        """
        return cls(
            hidden_size=hidden_size,
            num_heads=num_heads,
            head_dim=head_width(hidden_size, num_heads),
            mlp=partial(MLP, hidden_size, intermediate_size, activation=activation, bias=True),
            **parts,
        )

    def encoder(self) -> Block:
        """Every token sees every other."""
        return self._block(attention=self._self_attention(is_causal=False), ffn=self.mlp())

    def decoder(self) -> Block:
        """Each token sees those before it, and then the whole source."""
        cross = CrossAttention(**self._heads, scale=self.scale)
        return self._block(attention=self._self_attention(is_causal=True), cross=cross, ffn=self.mlp())

    def decoder_alone(self) -> Block:
        """Each token sees those before it; there is no source."""
        return self._block(attention=self._self_attention(is_causal=True), ffn=self.mlp())

    def _block(self, **mixers: nn.Module) -> Block:
        return Block(**{name: self.residual(mixer) for name, mixer in mixers.items()})

    def _self_attention(self, *, is_causal: bool) -> Attention:
        rule = AttentionRule(is_causal=is_causal, scale=self.scale)
        return Attention(
            **self._heads, num_kv_heads=self.num_heads, rule=rule, rope=None, score_bias=self.score_bias
        )

    @property
    def _heads(self) -> dict[str, Any]:
        sizes = {name: getattr(self, name) for name in ("hidden_size", "num_heads", "head_dim")}
        return {**sizes, **self.biases}
