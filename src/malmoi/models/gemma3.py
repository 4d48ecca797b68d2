"""Gemma 3: five local layers to a global one, each kind with a rotation of its own (arXiv:2503.19786, section 2).

Only one layer in six keeps the keys of the whole context, so a long one costs little memory. Local layers rotate by
the old base, global ones by a base a hundred times as large; norms of queries and keys take the place of the caps.
This is the text model; the ones that see images hold it as their decoder. Read `gemma2.py` first.
"""

from dataclasses import dataclass, field
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models import gemma, gemma2, llama
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.layer_pattern import periodic
from malmoi.models.llama_shape import QK_NORM_NAMES
from malmoi.models.rope_parameters import read_rope, require_length, write_rope
from malmoi.nn.block import Block
from malmoi.nn.norm import OffsetRMSNorm
from malmoi.nn.rope import Rope, RopeConfig
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class Gemma3Config(gemma2.LayeredConfig):
    """A Gemma 3: global layers rotate by `rope`, local ones by `local_rope`."""

    local_rope: RopeConfig = field(default_factory=RopeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_length(self.local_rope, self.max_positions)


def gemma3_1b() -> Gemma3Config:
    """Gemma 3 1B (arXiv:2503.19786, section 2, and the model's `config.json`).

    >>> gemma3_1b().rope.theta / gemma3_1b().local_rope.theta
    100.0
    """
    return Gemma3Config(
        vocab_size=262_144, hidden_size=1152, intermediate_size=6912, num_layers=26, num_heads=4,
        num_kv_heads=1, head_dim=256, max_positions=32_768, norm_eps=1e-6, is_tied=True, window=512,
        layer_pattern=periodic(26, 6), rope=RopeConfig(theta=1_000_000.0),
    )  # fmt: skip


def build(config: Gemma3Config) -> Decoder:
    """Gemma 2's blocks with two rotations and two norms more. Raises ConfigError if heads do not fit."""

    def block(layer: int) -> Block:
        attention = llama.attention(
            config,
            rule=gemma2.layer_rule(config, layer),
            rope="local" if config.layer_pattern[layer] == "L" else "global",
            q_norm=OffsetRMSNorm(config.head_dim, eps=config.norm_eps),
            k_norm=OffsetRMSNorm(config.head_dim, eps=config.norm_eps),
        )
        return gemma2.sandwiched(config, attention)

    ropes = {"global": config.rope, "local": config.local_rope}
    return gemma.assemble(
        config, block, ropes={name: Rope(rope, config.head_dim) for name, rope in ropes.items()}
    )


def rules(config: Gemma3Config) -> Rules:
    """Hugging Face's names and ours."""
    return Rules(renames(gemma2.NAMES | QK_NORM_NAMES))


def read_config(reader: ConfigReader) -> Gemma3Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    # Keys of Gemma 2's code that transformers kept, and only half reads.
    reader.require("attn_logit_softcapping", None)
    reader.require("final_logit_softcapping", None)
    reader.disregard("_sliding_window_pattern")  # what `layer_types` were made of
    rope, local_rope = read_ropes(reader)
    shape = gemma.read_shape(reader, num_kv_heads=4, max_positions=131_072, rope=rope)
    return Gemma3Config(**gemma2.read_layers(reader, shape, period=6), local_rope=local_rope)


def read_ropes(reader: ConfigReader) -> tuple[RopeConfig, RopeConfig]:
    """The rotations of global and of local layers: nested since transformers 5, before in keys of their own.

    Raises ConfigError if a file has both and they disagree.
    """
    raw, found = reader.raw, {}
    old_keys = [key for key in ("rope_theta", "rope_scaling", "rope_local_base_freq") if key in raw]
    nested = reader.sub("rope_parameters")
    if nested is not None:
        found["nested"] = tuple(
            _read_rope(reader, {"rope_parameters": nested.take(kind, dict)}, theta)
            for kind, theta in (("full_attention", 1e6), ("sliding_attention", 1e4))
        )
        nested.finish()
    if old_keys or nested is None:
        old: dict[str, Any] = {key: raw[key] for key in old_keys if key != "rope_local_base_freq"}
        local = RopeConfig(theta=reader.positive("rope_local_base_freq", float, 1e4))
        found["old"] = (_read_rope(reader, old, 1e6), local)
        reader.disregard(*old)
    if len(set(found.values())) > 1:
        raise ConfigError(
            f"{reader.where}: rope_parameters and {', '.join(old_keys)} disagree about the rotary positions. "
            "Remove what is wrong."
        )
    rope, local_rope = next(iter(found.values()))
    return rope, local_rope


def _read_rope(reader: ConfigReader, keys: dict[str, Any], theta: float) -> RopeConfig:
    length = reader.positive("max_position_embeddings", int, 131_072)
    return read_rope(ConfigReader(keys, where=reader.where), max_positions=length, theta=theta)


def write_config(config: Gemma3Config) -> dict[str, Any]:
    """`read_config` run backwards, in both spellings; a local rotation that is scaled has none of the older."""
    ropes = {"full_attention": write_rope(config.rope), "sliding_attention": write_rope(config.local_rope)}
    keys = {**gemma2.write_layers(config), "rope_parameters": ropes}
    if config.local_rope.scaling is None:
        return keys | {"rope_local_base_freq": config.local_rope.theta}
    return keys | {"rope_theta": None, "rope_scaling": None}


PRESETS = {"gemma3-1b": gemma3_1b}
FAMILIES = (
    Family(
        model_type="gemma3_text",
        architecture="Gemma3ForCausalLM",
        config_class=Gemma3Config,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "five local layers to a global one, so that a long context's cache is small",
            "local and global layers rotate by bases of their own",
            "norms of queries and keys in the place of caps",
        ),
        grew_from="gemma2",
        optional_prefix="model.",
    ),
)
