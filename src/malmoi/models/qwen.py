"""Qwen2: Llama with biases on the projections to q, k and v alone (arXiv:2407.10671, section 2.2.1).

Qwen2.5 is the same network. A window on the later layers is a part of its format, and of no published model. Read
`llama.py` first; next: `qwen3.py`.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import llama
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import LlamaShape, assemble, read_shape, write_shape
from malmoi.nn.attend import AttentionRule
from malmoi.nn.block import Block
from malmoi.nn.rope import RopeConfig
from malmoi.nn.stack import Decoder


@dataclass(frozen=True, kw_only=True)
class Qwen2Config(LlamaShape):
    """A Qwen2 or 2.5. With a `window`, layers from `first_windowed_layer` on have it; published models have none."""

    window: int | None = None
    first_windowed_layer: int = 0


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


def build(config: Qwen2Config) -> Decoder:
    """Llama with biases, and a window where the layer has one."""

    def block(layer: int) -> Block:
        attention = llama.attention(config, rule=rule(config, layer), bias=True)
        return llama.pre_norm_block(config, attention, llama.swiglu(config))

    return assemble(config, block, norm=llama.norm(config))


def rule(config: Qwen2Config, layer: int) -> AttentionRule:
    """Who sees whom in a layer."""
    return AttentionRule(window=config.window if layer >= config.first_windowed_layer else None)


def read_config(reader: ConfigReader) -> Qwen2Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("use_mrope", False)
    shape = read_shape(reader, num_kv_heads=32, max_positions=32_768)
    return Qwen2Config(**shape, **read_window(reader, shape["num_layers"]))


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


def write_config(config: Qwen2Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **write_shape(config),
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": config.num_layers if config.window is None else config.first_windowed_layer,
    }


PRESETS = {"qwen2.5-0.5b": qwen2_5_0_5b}
FAMILIES = (
    Family(
        model_type="qwen2",
        architecture="Qwen2ForCausalLM",
        config_class=Qwen2Config,
        build=build,
        rules=llama.rules,
        read_config=read_config,
        write_config=write_config,
        ideas=("biases on the projections to q, k and v",),
        grew_from="llama",
        optional_prefix="model.",
    ),
)
