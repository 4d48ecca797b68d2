"""Qwen3: Qwen2 whose queries and keys are normalised, in the place of biases (arXiv:2505.09388, section 2).

Each head of q and k goes through an RMSNorm before it is turned, so that no score grows out of bounds. Read `qwen.py`
first; next: `qwen_moe.py`.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import llama, qwen
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import NAMES, QK_NORM_NAMES, LlamaShape, assemble, read_shape
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention
from malmoi.nn.block import Block
from malmoi.nn.norm import RMSNorm
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class Qwen3Config(qwen.Qwen2Config):
    """A dense Qwen3."""

    has_attention_bias: bool = False


def qwen3_0_6b() -> Qwen3Config:
    """Qwen3 0.6B (arXiv:2505.09388, table 1, and its `config.json`)."""
    return Qwen3Config(
        vocab_size=151_936, hidden_size=1024, intermediate_size=3072, num_layers=28, num_heads=16,
        num_kv_heads=8, head_dim=128, max_positions=40_960, norm_eps=1e-6, rope=qwen.ROPE, is_tied=True,
    )  # fmt: skip


def qwen3_8b() -> Qwen3Config:
    """Qwen3 8B (arXiv:2505.09388, table 1, and its `config.json`)."""
    return Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_layers=36, num_heads=32,
        num_kv_heads=8, head_dim=128, max_positions=40_960, norm_eps=1e-6, rope=qwen.ROPE,
    )  # fmt: skip


def build(config: Qwen3Config) -> Decoder:
    """Qwen2 with normalised queries and keys in the place of the biases."""

    def block(layer: int) -> Block:
        attention = normed_attention(config, rule=qwen.rule(config, layer), bias=config.has_attention_bias)
        return llama.pre_norm_block(config, attention, llama.swiglu(config))

    return assemble(config, block, norm=llama.norm(config))


def normed_attention(config: LlamaShape, *, rule: AttentionRule, bias: bool) -> Attention:
    """Attention whose heads of q and k are normalised before they are turned (arXiv:2302.05442, section 2)."""
    return llama.attention(
        config,
        rule=rule,
        bias=bias,
        out_bias=bias,
        q_norm=RMSNorm(config.head_dim, eps=config.norm_eps),
        k_norm=RMSNorm(config.head_dim, eps=config.norm_eps),
    )


def rules(config: Qwen3Config) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(NAMES | QK_NORM_NAMES))


BIAS_KEYS = {"attention_bias": "has_attention_bias"}


def read_config(reader: ConfigReader) -> Qwen3Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    shape = read_shape(reader, num_kv_heads=32, head_dim=128, max_positions=32_768)
    window = qwen.read_window(reader, shape["num_layers"])
    return Qwen3Config(**shape, **window, **read_keys(reader, BIAS_KEYS, Qwen3Config))


def write_config(config: Qwen3Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**qwen.write_config(config), **write_keys(config, BIAS_KEYS)}


PRESETS = {"qwen3-0.6b": qwen3_0_6b, "qwen3-8b": qwen3_8b}
FAMILIES = (
    Family(
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        config_class=Qwen3Config,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=("each head of q and k is normalised, in the place of the biases",),
        grew_from="qwen2",
        optional_prefix="model.",
    ),
)
