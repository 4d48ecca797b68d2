"""EXAONE 4.0: Mistral's windows in most layers, no positions in the rest (LG AI Research 2025, arXiv:2507.11407).

Section 2.1: three local layers, then a global one. A local layer sees a window and rotates; a global one sees
everything and no positions, for a better grasp of the whole context. Queries and keys are normalised, and so is what
a sublayer adds, not what it reads. The small model is global throughout, and rotates. Korean, English and Spanish.
Read `mistral.py` first.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import llama, mistral
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.layer_pattern import read_layer_pattern, require_pattern, write_layer_pattern
from malmoi.models.llama_shape import (
    ATTENTION_NAMES,
    MLP_NAMES,
    OUTER_NAMES,
    QK_NORM_NAMES,
    assemble,
    read_shape,
)
from malmoi.nn.attend import AttentionRule
from malmoi.nn.block import Block, Reordered
from malmoi.nn.norm import RMSNorm
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import Llama3Scaling
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class Exaone4Config(mistral.MistralConfig):
    """An EXAONE 4. `layer_pattern` has a letter a layer: L is local and has the `window`, G is global.

    Global layers rotate if there is no window. Raises ConfigError where letters, layers and window do not fit.
    """

    layer_pattern: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require_pattern(self.layer_pattern, num_layers=self.num_layers, window=self.window)


ROPE = RopeConfig(
    theta=1_000_000.0,
    scaling=Llama3Scaling(factor=16.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192),
)  # fmt: skip


def exaone4_32b() -> Exaone4Config:
    """EXAONE 4.0 32B (its model card on the Hub, "Model Configuration", and its `config.json`).

    >>> exaone4_32b().layer_pattern[:8]
    'LLLGLLLG'
    """
    return Exaone4Config(
        vocab_size=102_400, hidden_size=5120, intermediate_size=27_392, num_layers=64, num_heads=40,
        num_kv_heads=8, head_dim=128, max_positions=131_072, rope=ROPE, window=4096, layer_pattern="LLLG" * 16,
    )  # fmt: skip


def exaone4_1_2b() -> Exaone4Config:
    """EXAONE 4.0 1.2B (its model card on the Hub, "Model Configuration", and its `config.json`)."""
    return Exaone4Config(
        vocab_size=102_400, hidden_size=2048, intermediate_size=4096, num_layers=30, num_heads=32,
        num_kv_heads=8, head_dim=64, max_positions=65_536, rope=ROPE, is_tied=True, layer_pattern="G" * 30,
    )  # fmt: skip


def build(config: Exaone4Config) -> Decoder:
    """Llama's frame with blocks of two kinds. Raises ConfigError if heads do not fit."""
    return assemble(
        config,
        lambda layer: block(config, is_local=config.layer_pattern[layer] == "L"),
        norm=llama.norm(config),
    )


def block(config: Exaone4Config, *, is_local: bool) -> Block:
    """The two sublayers: what they read is not normalised, what they add is."""
    attention = llama.attention(
        config,
        rule=AttentionRule(window=config.window if is_local else None),
        rope="default" if is_local or config.window is None else None,
        q_norm=RMSNorm(config.head_dim, eps=config.norm_eps),
        k_norm=RMSNorm(config.head_dim, eps=config.norm_eps),
    )
    return Block(
        attention=Reordered(attention, llama.norm(config)),
        ffn=Reordered(llama.swiglu(config), llama.norm(config)),
    )


NORM_NAMES = {
    "model.layers.{}.post_attention_layernorm.weight": "blocks.{}.attention.norm.weight",
    "model.layers.{}.post_feedforward_layernorm.weight": "blocks.{}.ffn.norm.weight",
}


def rules(config: Exaone4Config) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(OUTER_NAMES | ATTENTION_NAMES | QK_NORM_NAMES | MLP_NAMES | NORM_NAMES))


def read_config(reader: ConfigReader) -> Exaone4Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    shape = read_shape(reader, num_kv_heads=32, norm_eps=1e-5)
    pattern = read_layer_pattern(reader, num_layers=shape["num_layers"], period=4)
    window = read_keys(reader, mistral.KEYS, Exaone4Config, window=4096)
    return Exaone4Config(**shape, **window, layer_pattern=pattern)


def write_config(config: Exaone4Config) -> dict[str, Any]:
    """`read_config` run backwards. The pattern twice: transformers reads the types, others read the letters."""
    return {
        **mistral.write_config(config),
        "sliding_window_pattern": None if config.window is None else config.layer_pattern,
        "layer_types": write_layer_pattern(config.layer_pattern),
    }


PRESETS = {"exaone4-1.2b": exaone4_1_2b, "exaone4-32b": exaone4_32b}
FAMILIES = (
    Family(
        model_type="exaone4",
        architecture="Exaone4ForCausalLM",
        config_class=Exaone4Config,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "local layers with a window and global ones without, three to one",
            "only local layers rotate: global ones see no positions",
            "a norm on each head's queries and keys",
            "a norm on what a sublayer adds, none on what it reads",
        ),
        grew_from="mistral",
        optional_prefix="model.",
    ),
)
