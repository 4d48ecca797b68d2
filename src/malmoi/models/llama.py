"""Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023, arXiv:2302.13971).

Llama 2 brought grouped queries to its larger sizes (arXiv:2307.09288, section 2.2), Llama 3.1 a rotary scaling
for long contexts (`nn.rope_scaling.Llama3Scaling`). Everything here is a brick of `nn/`; the page only says
which. Every family's page has this order: Config, presets, `build`, `rules`, `read_config`, `write_config`.

Most decoders since are Llama with an idea or two more: their pages call the parts of this one, and what the whole
line has in common, configuration, frame and names, is in `py`. Read next: `mistral.py`.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import NAMES, LlamaShape, assemble, read_shape, write_shape
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.mlp import GatedMLP
from malmoi.nn.norm import RMSNorm
from malmoi.nn.rope import RopeConfig
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(LlamaShape):
    """A Llama, with the biases that some of its descendants have."""

    has_attention_bias: bool = False
    has_mlp_bias: bool = False


def llama3_8b() -> LlamaConfig:
    """Llama 3 8B (arXiv:2407.21783, table 3).

    >>> llama3_8b().num_kv_heads
    8
    """
    return LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_layers=32, num_heads=32,
        num_kv_heads=8, head_dim=128, max_positions=8192, rope=RopeConfig(theta=500_000.0),
    )  # fmt: skip


def sized(depth: int, *, vocab_size: int, max_positions: int) -> LlamaConfig:
    """One dial: `depth` layers, everything else in proportion. Heads of 64, width 32 a layer, SwiGLU of 8/3.

    >>> sized(8, vocab_size=8192, max_positions=1024).hidden_size
    256
    """
    num_heads = max(1, depth // 2)
    hidden_size = num_heads * 64
    intermediate_size = -(-hidden_size * 8 // (3 * 64)) * 64  # rounded up to a multiple of 64
    return LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=intermediate_size,
        num_layers=depth, num_heads=num_heads, num_kv_heads=num_heads, head_dim=64,
        max_positions=max_positions, is_tied=True,
    )  # fmt: skip


def build(config: LlamaConfig) -> Decoder:
    """The network: before each sublayer an RMSNorm. Raises ConfigError if heads do not fit.

    >>> build(sized(2, vocab_size=256, max_positions=64)).blocks[0].ffn.mixer
    GatedMLP(
      (gate): Linear(in_features=64, out_features=192, bias=False)
      (up): Linear(in_features=64, out_features=192, bias=False)
      (down): Linear(in_features=192, out_features=64, bias=False)
    )
    """
    has_bias = config.has_attention_bias
    return assemble(
        config,
        lambda layer: pre_norm_block(
            config,
            attention(config, bias=has_bias, out_bias=has_bias),
            swiglu(config, bias=config.has_mlp_bias),
        ),
        norm=norm(config),
    )


def pre_norm_block(config: LlamaShape, mixer: nn.Module, ffn: nn.Module) -> Block:
    """The two sublayers, each behind a norm."""
    return Block(attention=PreNorm(norm(config), mixer), ffn=PreNorm(norm(config), ffn))


def norm(config: LlamaShape) -> RMSNorm:
    """RMSNorm over the residual stream."""
    return RMSNorm(config.hidden_size, eps=config.norm_eps)


def attention(config: LlamaShape, **parts: Any) -> Attention:
    """Grouped-query attention with rotary positions; `parts` are what a family changes or puts in."""
    shape = {name: getattr(config, name) for name in ("hidden_size", "num_heads", "num_kv_heads", "head_dim")}
    return Attention(**(shape | {"rule": AttentionRule()} | parts))


def swiglu(config: LlamaShape, *, bias: bool = False) -> GatedMLP:
    """The feed-forward sublayer."""
    return GatedMLP(config.hidden_size, config.intermediate_size, bias=bias)


def rules(config: LlamaShape) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(NAMES))


BIAS_KEYS = {"attention_bias": "has_attention_bias", "mlp_bias": "has_mlp_bias"}


def read_config(reader: ConfigReader) -> LlamaConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    # SmolLM says it; True would be the paper's pairing of neighbours.
    reader.require("rope_interleaved", False)
    reader.disregard("pretraining_tp")  # only the order of a sum
    shape = read_shape(reader)
    reader.require("max_sequence_length", shape["max_positions"])  # the first files say it by two names
    return LlamaConfig(**shape, **read_keys(reader, BIAS_KEYS, LlamaConfig))


def write_config(config: LlamaConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_shape(config), **write_keys(config, BIAS_KEYS)}


PRESETS = {"llama3-8b": llama3_8b}
FAMILIES = (
    Family(
        model_type="llama",
        architecture="LlamaForCausalLM",
        config_class=LlamaConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "RMSNorm before each sublayer: no mean, no bias",
            "rotary positions: queries and keys are turned, so scores see distances",
            "grouped-query attention: several query heads share a key head",
            "SwiGLU: a feed-forward network with a gate",
        ),
        grew_from="gpt2",
        optional_prefix="model.",
        ignored_tensors=("model.layers.{}.self_attn.rotary_emb.inv_freq",),
    ),
)
