"""What the decoders of Llama's line share: their shape, as a `config.json` says it, their frame and their names.

Most are Llama with an idea or two more, so most of their files and of their assembly is Llama's. Place in the flow: a
page's Config inherits `LlamaShape`, its `build` fills the layers of `assemble`, its `rules` put the tables of names
together, its `read_config` and `write_config` call `read_shape` and `write_shape`. Read next: `llama.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.models.rope_parameters import read_rope, require_length, write_rope
from malmoi.nn.attention import head_width
from malmoi.nn.block import Block
from malmoi.nn.embedding import Embedding
from malmoi.nn.rope import Rope, RopeConfig
from malmoi.nn.stack import Decoder


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


def assemble(
    config: LlamaShape,
    block: Callable[[int], Block],
    *,
    norm: nn.Module,
    embedding: Embedding | None = None,
    head: nn.Module | None = None,
    ropes: dict[str, Rope] | None = None,
) -> Decoder:
    """The frame around the `block` of each layer: `norm` comes last; Llama's own where a family gives nothing else."""
    embedding = embedding or Embedding(config.vocab_size, config.hidden_size)
    # Before the blocks: the weights that a seed draws depend on the order.
    head = head or output_head(embedding, is_tied=config.is_tied)
    return Decoder(
        embedding=embedding,
        blocks=[block(layer) for layer in range(config.num_layers)],
        norm=norm,
        head=head,
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
        ropes=ropes or {"default": Rope(config.rope, config.head_dim)},
    )


OUTER_NAMES = {
    "model.embed_tokens.weight": "embedding.tokens.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.weight",
}
FRAME_NAMES = OUTER_NAMES | {  # and the two norms of `llama.pre_norm_block`
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
NAMES = FRAME_NAMES | ATTENTION_NAMES | MLP_NAMES


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
