"""Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023, arXiv:2302.13971).

Llama 2 brought grouped queries to its larger sizes (arXiv:2307.09288, section 2.2), Llama 3 a rotary scaling
for long contexts (arXiv:2407.21783, section 3.4.2). Everything here is a brick of `nn/`; the page only says
which. Every family's page has this order: Config, presets, `build`, `rules`, `read_config`, `write_config`.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.rope_parameters import read_rope, write_rope
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, head_width
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.embedding import Embedding
from malmoi.nn.linear import Linear
from malmoi.nn.mlp import GatedMLP
from malmoi.nn.norm import RMSNorm
from malmoi.nn.rope import Rope, RopeConfig
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rename, Rules


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """A Llama's shape. `head_dim` is free of `hidden_size / num_heads`, as Hugging Face allows."""

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
    """The network: what makes Llama Llama is these twenty lines. Raises ConfigError if heads do not fit.

    >>> build(sized(2, vocab_size=256, max_positions=64)).blocks[0].ffn.mixer
    GatedMLP(
      (gate): Linear(in_features=64, out_features=192, bias=False)
      (up): Linear(in_features=64, out_features=192, bias=False)
      (down): Linear(in_features=192, out_features=64, bias=False)
    )
    """
    norm = partial(RMSNorm, config.hidden_size, eps=config.norm_eps)

    def block(layer: int) -> Block:
        attention = Attention(
            layer,
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rule=AttentionRule(),
            bias=config.has_attention_bias,
            out_bias=config.has_attention_bias,
        )
        ffn = GatedMLP(config.hidden_size, config.intermediate_size, bias=config.has_mlp_bias)
        return Block(attention=PreNorm(norm(), attention), ffn=PreNorm(norm(), ffn))

    embedding = Embedding(config.vocab_size, config.hidden_size)
    head = Linear(config.hidden_size, config.vocab_size, bias=False)
    if config.is_tied:
        head.weight = embedding.tokens.weight
    return Decoder(
        embedding=embedding,
        blocks=[block(layer) for layer in range(config.num_layers)],
        norm=norm(),
        head=head,
        max_positions=config.max_positions,
        ropes={"default": Rope(config.rope, config.head_dim)},
    )


def rules(config: LlamaConfig) -> Rules:
    """Hugging Face's names and ours."""
    theirs, ours = "model.layers.{}.", "blocks.{}."
    names = {
        "model.embed_tokens.weight": "embedding.tokens.weight",
        theirs + "input_layernorm.weight": ours + "attention.norm.weight",
        theirs + "self_attn.q_proj.{}": ours + "attention.mixer.q.{}",
        theirs + "self_attn.k_proj.{}": ours + "attention.mixer.k.{}",
        theirs + "self_attn.v_proj.{}": ours + "attention.mixer.v.{}",
        theirs + "self_attn.o_proj.{}": ours + "attention.mixer.out.{}",
        theirs + "post_attention_layernorm.weight": ours + "ffn.norm.weight",
        theirs + "mlp.gate_proj.{}": ours + "ffn.mixer.gate.{}",
        theirs + "mlp.up_proj.{}": ours + "ffn.mixer.up.{}",
        theirs + "mlp.down_proj.{}": ours + "ffn.mixer.down.{}",
        "model.norm.weight": "norm.weight",
        "lm_head.weight": "head.weight",
    }
    return Rules([Rename(source, target) for source, target in names.items()])


def read_config(reader: ConfigReader) -> LlamaConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("hidden_act", "silu")
    reader.require(
        "rope_interleaved", False
    )  # SmolLM says it; True would be the paper's pairing of neighbours
    reader.disregard("attention_dropout")  # training's business
    reader.disregard("pretraining_tp")  # only the order of a sum
    hidden_size = reader.positive("hidden_size", int)
    num_heads = reader.positive("num_attention_heads", int)
    max_positions = reader.positive("max_position_embeddings", int, 2048)
    has_head_dim = "head_dim" in reader.raw
    return LlamaConfig(
        vocab_size=reader.positive("vocab_size", int),
        hidden_size=hidden_size,
        intermediate_size=reader.positive("intermediate_size", int),
        num_layers=reader.positive("num_hidden_layers", int),
        num_heads=num_heads,
        num_kv_heads=reader.positive("num_key_value_heads", int, num_heads),
        head_dim=reader.positive("head_dim", int) if has_head_dim else head_width(hidden_size, num_heads),
        max_positions=max_positions,
        norm_eps=reader.positive("rms_norm_eps", float, 1e-6),
        rope=read_rope(reader, max_positions=max_positions),
        is_tied=reader.take("tie_word_embeddings", bool, False),
        has_attention_bias=reader.take("attention_bias", bool, False),
        has_mlp_bias=reader.take("mlp_bias", bool, False),
    )


def write_config(config: LlamaConfig) -> dict[str, Any]:
    """`read_config` run backwards. Both spellings of the rotary base, for readers of either age."""
    rope = write_rope(config.rope)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "rope_scaling": rope if config.rope.scaling else None,
        "rope_parameters": rope,
        "tie_word_embeddings": config.is_tied,
        "attention_bias": config.has_attention_bias,
        "mlp_bias": config.has_mlp_bias,
        "hidden_act": "silu",
    }


FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    config_class=LlamaConfig,
    build=build,
    rules=rules,
    read_config=read_config,
    write_config=write_config,
    ignored_tensors=("model.layers.{}.self_attn.rotary_emb.inv_freq",),
)
