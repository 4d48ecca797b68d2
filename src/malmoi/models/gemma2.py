"""Gemma 2: windows in every second layer, sandwich norms, caps on what grows large (arXiv:2408.00118, section 2).

Layers alternate between local attention, which sees a window, and global. A norm before a sublayer and one after it
keep what is added small, and a soft cap bends attention scores and logits. Read `gemma.py` first.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from malmoi.models import gemma, llama
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.layer_pattern import periodic, read_layer_pattern, require_pattern, write_layer_pattern
from malmoi.models.llama_shape import ATTENTION_NAMES, MLP_NAMES, OUTER_NAMES
from malmoi.nn.attend import AttentionRule
from malmoi.nn.block import Block, Sandwich
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class LayeredConfig(gemma.GemmaConfig):
    """What Gemma 2 and 3 share. `layer_pattern` has a letter a layer: L is local and sees the `window`, G is global.

    Scores are divided by the root of `query_scalar`, which need not be a head's width. Raises ConfigError where letters
    and layers do not fit.
    """

    window: int
    layer_pattern: str
    query_scalar: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require_pattern(self.layer_pattern, num_layers=self.num_layers, window=self.window)


@dataclass(frozen=True, kw_only=True)
class Gemma2Config(LayeredConfig):
    """A Gemma 2. A cap of None is none."""

    score_cap: float | None = 50.0
    logit_cap: float | None = 30.0


def gemma2_2b() -> Gemma2Config:
    """Gemma 2 2B (arXiv:2408.00118, table 1).

    >>> gemma2_2b().layer_pattern[:6]
    'LGLGLG'
    """
    return Gemma2Config(
        vocab_size=256_000, hidden_size=2304, intermediate_size=9216, num_layers=26, num_heads=8,
        num_kv_heads=4, head_dim=256, max_positions=8192, norm_eps=1e-6, is_tied=True, window=4096,
        layer_pattern=periodic(26, 2),
    )  # fmt: skip


def build(config: Gemma2Config) -> Decoder:
    """Gemma's frame with blocks of two kinds. Raises ConfigError if heads do not fit."""

    def block(layer: int) -> Block:
        rule = layer_rule(config, layer, cap=config.score_cap)
        return sandwiched(config, llama.attention(config, rule=rule))

    return gemma.assemble(config, block, logit_cap=config.logit_cap)


def layer_rule(config: LayeredConfig, layer: int, *, cap: float | None = None) -> AttentionRule:
    """Who sees whom in a layer."""
    window = config.window if config.layer_pattern[layer] == "L" else None
    return AttentionRule(window=window, scale=config.query_scalar**-0.5, soft_cap=cap)


def sandwiched(config: LayeredConfig, attention: nn.Module) -> Block:
    """The two sublayers, each between two norms."""
    return Block(
        attention=Sandwich(gemma.norm(config), attention, gemma.norm(config)),
        ffn=Sandwich(gemma.norm(config), gemma.geglu(config), gemma.norm(config)),
    )


SANDWICH_NAMES = {
    "model.layers.{}.input_layernorm.weight": "blocks.{}.attention.pre_norm.weight",
    "model.layers.{}.post_attention_layernorm.weight": "blocks.{}.attention.post_norm.weight",
    "model.layers.{}.pre_feedforward_layernorm.weight": "blocks.{}.ffn.pre_norm.weight",
    "model.layers.{}.post_feedforward_layernorm.weight": "blocks.{}.ffn.post_norm.weight",
}
NAMES = OUTER_NAMES | SANDWICH_NAMES | ATTENTION_NAMES | MLP_NAMES


def rules(config: Gemma2Config) -> Rules:
    """Hugging Face's names and ours: a head with a cap is two modules, the first has the weight."""
    return Rules(renames(NAMES if config.logit_cap is None else NAMES | {"lm_head.weight": "head.0.weight"}))


LAYER_KEYS = {"sliding_window": "window", "query_pre_attn_scalar": "query_scalar"}
CAP_KEYS = {"attn_logit_softcapping": "score_cap", "final_logit_softcapping": "logit_cap"}


def read_config(reader: ConfigReader) -> Gemma2Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("sliding_window_pattern", 2)
    layers = read_layers(reader, gemma.read_shape(reader, num_kv_heads=4), period=2)
    return Gemma2Config(**layers, **read_keys(reader, CAP_KEYS, Gemma2Config))


def read_layers(reader: ConfigReader, shape: dict[str, Any], *, period: int) -> dict[str, Any]:
    """The fields of `LayeredConfig`: those of `shape`, and what tells the layers apart."""
    keys = read_keys(reader, LAYER_KEYS, LayeredConfig, window=4096)
    reader.require("sliding_window_size", keys["window"])
    pattern = read_layer_pattern(reader, num_layers=shape["num_layers"], period=period)
    return {**shape, **keys, "layer_pattern": pattern}


def write_config(config: Gemma2Config) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_layers(config), **write_keys(config, CAP_KEYS)}


def write_layers(config: LayeredConfig) -> dict[str, Any]:
    """`read_layers` run backwards."""
    types = write_layer_pattern(config.layer_pattern)
    return {**gemma.write_config(config), **write_keys(config, LAYER_KEYS), "layer_types": types}


PRESETS = {"gemma2-2b": gemma2_2b}
FAMILIES = (
    Family(
        model_type="gemma2",
        architecture="Gemma2ForCausalLM",
        config_class=Gemma2Config,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "every second layer sees a window only",
            "sandwich norms: what a sublayer adds is normalised too",
            "soft caps on attention scores and on logits",
        ),
        grew_from="gemma",
        optional_prefix="model.",
    ),
)
