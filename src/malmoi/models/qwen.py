"""Qwen2 and Qwen3: Llama with biases, then with normalised queries and keys.

Qwen2 (arXiv:2407.10671, section 2.2.1) adds a bias to the projections to q, k and v alone; Qwen3 (arXiv:2505.09388,
section 2) drops it and normalises each head of q and k instead, so that no score grows out of bounds.
Read `llama.py` first; next: `qwen_moe.py`.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import llama
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention
from malmoi.nn.block import Block
from malmoi.nn.norm import RMSNorm
from malmoi.nn.rope import RopeConfig
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class Qwen2Config(llama.LlamaShape):
    """A Qwen2 or 2.5. With a `window`, layers from `first_windowed_layer` on have it; published models have none."""

    window: int | None = None
    first_windowed_layer: int = 0


@dataclass(frozen=True, kw_only=True)
class Qwen3Config(Qwen2Config):
    """A dense Qwen3."""

    has_attention_bias: bool = False


ROPE = RopeConfig(theta=1_000_000.0)


def qwen2_5_0_5b() -> Qwen2Config:
    """Qwen2.5 0.5B (arXiv:2412.15115, table 1, and its `config.json`).

    >>> qwen2_5_0_5b().num_kv_heads
    2
    """
    return Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_layers=24, num_heads=14,
        num_kv_heads=2, head_dim=64, max_positions=32_768, norm_eps=1e-6, rope=ROPE, is_tied=True,
    )  # fmt: skip


def qwen3_0_6b() -> Qwen3Config:
    """Qwen3 0.6B (arXiv:2505.09388, table 1, and its `config.json`)."""
    return Qwen3Config(
        vocab_size=151_936, hidden_size=1024, intermediate_size=3072, num_layers=28, num_heads=16,
        num_kv_heads=8, head_dim=128, max_positions=40_960, norm_eps=1e-6, rope=ROPE, is_tied=True,
    )  # fmt: skip


def qwen3_8b() -> Qwen3Config:
    """Qwen3 8B (arXiv:2505.09388, table 1, and its `config.json`)."""
    return Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_layers=36, num_heads=32,
        num_kv_heads=8, head_dim=128, max_positions=40_960, norm_eps=1e-6, rope=ROPE,
    )  # fmt: skip


def build_qwen2(config: Qwen2Config) -> Decoder:
    """Llama with biases, and a window where the layer has one."""

    def block(layer: int) -> Block:
        attention = llama.attention(config, rule=rule(config, layer), bias=True)
        return llama.pre_norm_block(config, attention, llama.swiglu(config))

    return llama.assemble(config, block)


def build_qwen3(config: Qwen3Config) -> Decoder:
    """Qwen2 with normalised queries and keys in the place of the biases."""

    def block(layer: int) -> Block:
        attention = normed_attention(config, rule=rule(config, layer), bias=config.has_attention_bias)
        return llama.pre_norm_block(config, attention, llama.swiglu(config))

    return llama.assemble(config, block)


def rule(config: Qwen2Config, layer: int) -> AttentionRule:
    """Who sees whom in a layer."""
    return AttentionRule(window=config.window if layer >= config.first_windowed_layer else None)


def normed_attention(config: llama.LlamaShape, *, rule: AttentionRule, bias: bool) -> Attention:
    """Attention whose heads of q and k are normalised before they are turned (arXiv:2302.05442, section 2)."""
    return llama.attention(
        config,
        rule=rule,
        bias=bias,
        out_bias=bias,
        q_norm=RMSNorm(config.head_dim, eps=config.norm_eps),
        k_norm=RMSNorm(config.head_dim, eps=config.norm_eps),
    )


def qwen3_rules(config: Qwen3Config) -> Rules:
    """Hugging Face's names and ours."""
    attention = llama.ATTENTION_NAMES | llama.QK_NORM_NAMES
    return Rules(renames(llama.FRAME_NAMES | attention | llama.MLP_NAMES))


BIAS_KEYS = {"attention_bias": "has_attention_bias"}


def read_qwen2(reader: ConfigReader) -> Qwen2Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("use_mrope", False)
    shape = llama.read_shape(reader, num_kv_heads=32, max_positions=32_768)
    return Qwen2Config(**shape, **read_window(reader, shape["num_layers"]))


def read_qwen3(reader: ConfigReader) -> Qwen3Config:
    """The same."""
    shape = llama.read_shape(reader, num_kv_heads=32, head_dim=128, max_positions=32_768)
    window = read_window(reader, shape["num_layers"])
    return Qwen3Config(**shape, **window, **read_keys(reader, BIAS_KEYS, Qwen3Config))


def read_window(reader: ConfigReader, num_layers: int) -> dict[str, Any]:
    """The window and the layers that have it; `layer_types`, where a file has them, say it once more."""
    has_window = reader.take("use_sliding_window", bool, False) and "sliding_window" not in reader.nulls
    window = reader.positive("sliding_window", int, 4096)
    first = min(reader.count("max_window_layers", 28), num_layers)
    if not has_window:
        first = num_layers
    elif "layer_types" in reader.raw:  # the reference does not look at the number then
        first = reader.take("layer_types", list).count("full_attention")
    types = ["full_attention"] * first + ["sliding_attention"] * (num_layers - first)
    reader.require("layer_types", types)
    return {"window": window, "first_windowed_layer": first} if has_window else {}


def write_qwen2(config: Qwen2Config) -> dict[str, Any]:
    """`read_qwen2` run backwards."""
    return {
        **llama.write_shape(config),
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": config.num_layers if config.window is None else config.first_windowed_layer,
    }


def write_qwen3(config: Qwen3Config) -> dict[str, Any]:
    """`read_qwen3` run backwards."""
    return {**write_qwen2(config), **write_keys(config, BIAS_KEYS)}


PRESETS = {"qwen2.5-0.5b": qwen2_5_0_5b, "qwen3-0.6b": qwen3_0_6b, "qwen3-8b": qwen3_8b}
FAMILIES = (
    Family(
        model_type="qwen2",
        architecture="Qwen2ForCausalLM",
        config_class=Qwen2Config,
        build=build_qwen2,
        rules=llama.rules,
        read_config=read_qwen2,
        write_config=write_qwen2,
        ideas=("biases on the projections to q, k and v",),
        grew_from="llama",
        optional_prefix="model.",
    ),
    Family(
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        config_class=Qwen3Config,
        build=build_qwen3,
        rules=qwen3_rules,
        read_config=read_qwen3,
        write_config=write_qwen3,
        ideas=("each head of q and k is normalised, in the place of the biases",),
        grew_from="qwen2",
        optional_prefix="model.",
    ),
)
