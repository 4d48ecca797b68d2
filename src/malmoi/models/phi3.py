"""Phi-3: Llama again, small, and taught by filtered and made-up text (Microsoft 2024, arXiv:2404.14219, section 2).

The network has nothing new but how it is stored: queries, keys and values are one matrix in the file, and so are gate
and up. Here they are the projections that every family has, views of those matrices (`weights.rules.Split`). The
4k model has Mistral's window, the 128k model LongRoPE (`nn.rope_scaling.LongRopeScaling`). Read `mistral.py` first.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models import mistral
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama_shape import FRAME_NAMES, read_shape
from malmoi.models.rope_parameters import read_rope
from malmoi.nn.rope_scaling import LongRopeScaling
from malmoi.weights.rules import Rules, Split, renames


@dataclass(frozen=True, kw_only=True)
class Phi3Config(mistral.MistralConfig):
    """A Phi-3. Raises ConfigError for a rotary scaling that is not LongRoPE, which its files cannot say."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.rope.scaling, LongRopeScaling | None):
            raise ConfigError(
                f"a Phi-3 has no {type(self.rope.scaling).__name__}. Use a LongRopeScaling, or no scaling."
            )


def phi3_mini_4k() -> Phi3Config:
    """Phi-3 Mini 4k, 3.8 billion parameters (arXiv:2404.14219, section 2, and its `config.json`).

    >>> phi3_mini_4k().window
    2047
    """
    return Phi3Config(
        vocab_size=32_064, hidden_size=3072, intermediate_size=8192, num_layers=32, num_heads=32,
        num_kv_heads=32, head_dim=96, max_positions=4096, window=2047,
    )  # fmt: skip


def rules(config: Phi3Config) -> Rules:
    """Hugging Face's names and ours: two matrices of a layer hold five of ours, one below the other."""
    mixer, ffn = "blocks.{}.attention.mixer.", "blocks.{}.ffn.mixer."
    num_queries, num_keys = (heads * config.head_dim for heads in (config.num_heads, config.num_kv_heads))
    names = {
        "model.layers.{}.self_attn.o_proj.weight": mixer + "out.weight",
        "model.layers.{}.mlp.down_proj.weight": ffn + "down.weight",
    }
    attention = Split(
        "model.layers.{}.self_attn.qkv_proj.weight",
        [f"{mixer}{part}.weight" for part in ("q", "k", "v")],
        dim=0,
        sizes=(num_queries, num_keys, num_keys),
    )
    mlp = Split(
        "model.layers.{}.mlp.gate_up_proj.weight",
        [f"{ffn}{part}.weight" for part in ("gate", "up")],
        dim=0,
        sizes=(config.intermediate_size,) * 2,
    )
    return Rules([*renames(FRAME_NAMES | names), attention, mlp])


def read_config(reader: ConfigReader) -> Phi3Config:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("attention_bias", False)
    reader.require("partial_rotary_factor", 1.0)  # Phi-4 Mini turns three quarters of a head
    reader.disregard("resid_pdrop", "embd_pdrop")  # training's business
    max_positions = reader.positive("max_position_embeddings", int, 4096)
    rope = read_rope(reader, max_positions=max_positions, original=4096)
    shape = read_shape(reader, max_positions=max_positions, norm_eps=1e-5, rope=rope)
    return Phi3Config(**shape, **read_keys(reader, mistral.KEYS, Phi3Config))


def write_config(config: Phi3Config) -> dict[str, Any]:
    """`read_config` run backwards. The original length stands beside the scaling, where transformers looks."""
    scaling = config.rope.scaling
    original = config.max_positions
    if isinstance(scaling, LongRopeScaling):
        original = scaling.original_max_positions
    return {
        **mistral.write_config(config),
        "original_max_position_embeddings": original,
        "pad_token_id": None,
    }


PRESETS = {"phi3-mini-4k": phi3_mini_4k}
FAMILIES = (
    Family(
        model_type="phi3",
        architecture="Phi3ForCausalLM",
        config_class=Phi3Config,
        build=mistral.build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "queries, keys and values are stored as one matrix, gate and up as another",
            "LongRoPE: a searched factor for each frequency, one set within the first context and one beyond",
        ),
        grew_from="mistral",
        optional_prefix="model.",
    ),
)
