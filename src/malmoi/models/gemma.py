"""Gemma: Llama with a scaled embedding, norms learned around one, GELU gates (Gemma Team 2024, arXiv:2403.08295).

Section 2, "Model Architecture". The next generations (`gemma2.py`, `gemma3.py`) have the same frame and other
blocks. Read `llama.py` first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from malmoi.models import llama, llama_shape
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import LlamaShape
from malmoi.models.output_head import output_head
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.embedding import Embedding
from malmoi.nn.mlp import GatedMLP, gelu_tanh
from malmoi.nn.norm import OffsetRMSNorm
from malmoi.nn.rope import Rope
from malmoi.nn.soft_cap import SoftCap
from malmoi.nn.stack import Decoder


@dataclass(frozen=True, kw_only=True)
class GemmaConfig(LlamaShape):
    """A Gemma of the first generation, and what all of them have."""


def gemma_2b() -> GemmaConfig:
    """Gemma 2B (arXiv:2403.08295, table 1).

    >>> gemma_2b().num_kv_heads
    1
    """
    return GemmaConfig(
        vocab_size=256_000, hidden_size=2048, intermediate_size=16_384, num_layers=18, num_heads=8,
        num_kv_heads=1, head_dim=256, max_positions=8192, norm_eps=1e-6, is_tied=True,
    )  # fmt: skip


def build(config: GemmaConfig) -> Decoder:
    """The network: Llama's blocks of other parts. Raises ConfigError if heads do not fit."""

    def block(layer: int) -> Block:
        attention = llama.attention(config)
        return Block(attention=PreNorm(norm(config), attention), ffn=PreNorm(norm(config), geglu(config)))

    return assemble(config, block)


def assemble(
    config: GemmaConfig,
    block: Callable[[int], Block],
    *,
    ropes: dict[str, Rope] | None = None,
    logit_cap: float | None = None,
) -> Decoder:
    """Llama's frame with the embedding multiplied by the root of its width and, in Gemma 2, the logits capped."""
    embedding = Embedding(config.vocab_size, config.hidden_size, scale=config.hidden_size**0.5)
    head = output_head(embedding, is_tied=config.is_tied)
    return llama_shape.assemble(
        config,
        block,
        norm=norm(config),
        embedding=embedding,
        head=head if logit_cap is None else nn.Sequential(head, SoftCap(logit_cap)),
        ropes=ropes,
    )


def norm(config: GemmaConfig) -> OffsetRMSNorm:
    """RMSNorm over the residual stream, its weight learned around one."""
    return OffsetRMSNorm(config.hidden_size, eps=config.norm_eps)


def geglu(config: GemmaConfig) -> GatedMLP:
    """The feed-forward sublayer, its gate a GELU."""
    return GatedMLP(config.hidden_size, config.intermediate_size, activation=gelu_tanh)


def read_config(reader: ConfigReader) -> GemmaConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    # Its first files say "gelu" and mean the approximation by tanh, which they were trained with.
    return GemmaConfig(**read_shape(reader, "gelu", num_kv_heads=16))


def read_shape(reader: ConfigReader, *activations: str, **defaults: Any) -> dict[str, Any]:
    """What all generations share; what transformers has a key for and no Gemma does is refused."""
    reader.require("hidden_activation", "gelu_pytorch_tanh")
    reader.require("attention_bias", False)
    reader.require("use_bidirectional_attention", False)
    defaults = {"head_dim": 256, "max_positions": 8192, "is_tied": True} | defaults
    return llama_shape.read_shape(reader, activations=("gelu_pytorch_tanh", *activations), **defaults)


def write_config(config: GemmaConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    activation = "gelu_pytorch_tanh"
    return llama_shape.write_shape(config) | {"hidden_act": activation, "hidden_activation": activation}


PRESETS = {"gemma-2b": gemma_2b}
FAMILIES = (
    Family(
        model_type="gemma",
        architecture="GemmaForCausalLM",
        config_class=GemmaConfig,
        build=build,
        rules=llama.rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "the embedding is multiplied by the root of its width",
            "norms multiply by 1 + w, so weight decay draws them to one",
            "GEGLU: the gate is a GELU",
        ),
        grew_from="llama",
        optional_prefix="model.",
    ),
)
