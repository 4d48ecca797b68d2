"""Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023, arXiv:2302.13971).

Llama 2 brought grouped queries to its larger sizes (arXiv:2307.09288, section 2.2), Llama 3.1 a rotary scaling
for long contexts (`nn.rope_scaling.Llama3Scaling`). Everything here is a brick of `nn/`; the page only says
which. Every family's page has this order: Config, presets, `build`, `rules`, `read_config`, `write_config`.

Most decoders since are Llama with an idea or two more, so the parts of this page are functions that their pages
call: `assemble` is the frame, `attention` and `swiglu` fill it. Read next: `mistral.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.models.rope_parameters import read_rope, require_length, write_rope
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, head_width
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.embedding import Embedding
from malmoi.nn.mlp import GatedMLP
from malmoi.nn.norm import RMSNorm
from malmoi.nn.rope import Rope, RopeConfig
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """What every decoder of this line has. `head_dim` is free of `hidden_size / num_heads`, as Hugging Face allows.

    Raises ConfigError for a dynamic scaling of another length than `max_positions`.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    norm_eps: float = 1e-5
    rope: RopeConfig = field(default_factory=RopeConfig)
    is_tied: bool = False

    def __post_init__(self) -> None:
        require_length(self.rope, self.max_positions)


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
    )


def assemble(
    config: LlamaShape,
    block: Callable[[int], Block],
    *,
    embedding: Embedding | None = None,
    last_norm: nn.Module | None = None,
    head: nn.Module | None = None,
    ropes: dict[str, Rope] | None = None,
) -> Decoder:
    """The frame around the `block` of each layer, Llama's own where a family puts in nothing else."""
    embedding = embedding or Embedding(config.vocab_size, config.hidden_size)
    head = head or output_head(embedding, is_tied=config.is_tied)
    return Decoder(
        embedding=embedding,
        blocks=[block(layer) for layer in range(config.num_layers)],
        norm=last_norm or norm(config),
        head=head,
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
        ropes=ropes or {"default": Rope(config.rope, config.head_dim)},
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


OUTER_NAMES = {
    "model.embed_tokens.weight": "embedding.tokens.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}
FRAME_NAMES = OUTER_NAMES | {  # and the two norms of `pre_norm_block`
    "model.layers.{}.input_layernorm.weight": "blocks.{}.attention.norm.weight",
    "model.layers.{}.post_attention_layernorm.weight": "blocks.{}.ffn.norm.weight",
}
ATTENTION_NAMES = {
    "model.layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.mixer.q.{}",
    "model.layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.mixer.k.{}",
    "model.layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.mixer.v.{}",
    "model.layers.{}.self_attn.o_proj.{}": "blocks.{}.attention.mixer.out.{}",
}
QK_NORM_NAMES = {  # where a family puts norms into attention
    "model.layers.{}.self_attn.q_norm.weight": "blocks.{}.attention.mixer.q_norm.weight",
    "model.layers.{}.self_attn.k_norm.weight": "blocks.{}.attention.mixer.k_norm.weight",
}
MLP_NAMES = {
    "model.layers.{}.mlp.gate_proj.{}": "blocks.{}.ffn.mixer.gate.{}",
    "model.layers.{}.mlp.up_proj.{}": "blocks.{}.ffn.mixer.up.{}",
    "model.layers.{}.mlp.down_proj.{}": "blocks.{}.ffn.mixer.down.{}",
}


def rules(config: LlamaShape) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(FRAME_NAMES | ATTENTION_NAMES | MLP_NAMES))


KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "is_tied",
}
BIAS_KEYS = {"attention_bias": "has_attention_bias", "mlp_bias": "has_mlp_bias"}


def read_config(reader: ConfigReader) -> LlamaConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    # SmolLM says it; True would be the paper's pairing of neighbours.
    reader.require("rope_interleaved", False)
    reader.disregard("pretraining_tp")  # only the order of a sum
    shape = read_shape(reader)
    reader.require("max_sequence_length", shape["max_positions"])  # the first files say it by two names
    return LlamaConfig(**shape, **read_keys(reader, BIAS_KEYS, LlamaConfig))


def read_shape(
    reader: ConfigReader,
    *,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    theta: float = 10_000.0,
    activations: tuple[str, ...] = ("silu",),
    rope: RopeConfig | None = None,
    **defaults: Any,
) -> dict[str, Any]:
    """The fields of `LlamaShape`; the arguments are what a family takes where its file says nothing.

    `activations` are those that it computes; with `rope`, it has read the rotary keys itself.
    """
    reader.require("hidden_act", *activations)
    reader.disregard("attention_dropout")  # training's business
    num_heads = reader.positive("num_attention_heads", int)
    if num_kv_heads is None or "num_key_value_heads" in reader.nulls:  # null is not the same as absent
        num_kv_heads = num_heads
    if head_dim is None and "head_dim" not in reader.raw:
        head_dim = head_width(reader.positive("hidden_size", int), num_heads)
    defaults = {"max_positions": 2048, "norm_eps": 1e-6, **defaults}
    shape = read_keys(reader, KEYS, LlamaShape, num_kv_heads=num_kv_heads, head_dim=head_dim, **defaults)
    return shape | {"rope": rope or read_rope(reader, max_positions=shape["max_positions"], theta=theta)}


def write_config(config: LlamaConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_shape(config), **write_keys(config, BIAS_KEYS)}


def write_shape(config: LlamaShape) -> dict[str, Any]:
    """`read_shape` run backwards. Both spellings of the rotary base, for readers of either age."""
    rope = write_rope(config.rope)
    return {
        **write_keys(config, KEYS),
        "rope_theta": config.rope.theta,
        "rope_scaling": rope if config.rope.scaling else None,
        "rope_parameters": rope,
        "hidden_act": "silu",
    }


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
