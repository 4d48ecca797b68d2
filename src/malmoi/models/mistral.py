"""Mistral: Llama whose queries see a window, and whose cache therefore rolls (Jiang et al. 2023, arXiv:2310.06825).

Section 2, "Sliding Window Attention": a query sees the last `window` positions, so layer by layer information still
travels `num_layers * window` far; "Rolling Buffer Cache": older keys are never asked for, so position i is stored
over position i - window and memory stops growing (`nn.cache.RollingCache`). Read `llama.py` first.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import llama
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import LlamaShape, assemble, read_shape, write_shape
from malmoi.nn.attend import AttentionRule
from malmoi.nn.rope import RopeConfig
from malmoi.nn.stack import Decoder


@dataclass(frozen=True, kw_only=True)
class MistralConfig(LlamaShape):
    """A Mistral; `window=None`, as from version 0.2 of the 7B model on, sees everything."""

    window: int | None = None


def mistral_7b() -> MistralConfig:
    """Mistral 7B v0.1 (arXiv:2310.06825, table 1).

    >>> mistral_7b().window
    4096
    """
    return MistralConfig(
        vocab_size=32_000, hidden_size=4096, intermediate_size=14_336, num_layers=32, num_heads=32,
        num_kv_heads=8, head_dim=128, max_positions=32_768, window=4096, rope=RopeConfig(theta=10_000.0),
    )  # fmt: skip


def build(config: MistralConfig) -> Decoder:
    """Llama with one rule changed."""
    rule = AttentionRule(window=config.window)
    return assemble(
        config,
        lambda layer: llama.pre_norm_block(config, llama.attention(config, rule=rule), llama.swiglu(config)),
        norm=llama.norm(config),
    )


KEYS = {"sliding_window": "window"}


def read_config(reader: ConfigReader) -> MistralConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    shape = read_shape(reader, num_kv_heads=8, max_positions=4096 * 32)
    return MistralConfig(**shape, **read_keys(reader, KEYS, MistralConfig, window=4096))


def write_config(config: MistralConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_shape(config), **write_keys(config, KEYS)}


PRESETS = {"mistral-7b": mistral_7b}
FAMILIES = (
    Family(
        model_type="mistral",
        architecture="MistralForCausalLM",
        config_class=MistralConfig,
        build=build,
        rules=llama.rules,
        read_config=read_config,
        write_config=write_config,
        ideas=("sliding-window attention, and with it a rolling cache that stops growing",),
        grew_from="llama",
        optional_prefix="model.",
    ),
)
