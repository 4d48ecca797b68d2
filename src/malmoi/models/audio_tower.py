"""The tower that hears: Whisper's encoder (Radford et al. 2022, arXiv:2212.04356, section 2.2), a part of pages.

Whisper puts a decoder beside it, Qwen2-Audio a language model behind it. It is no family of its own: its keys and
names are parts of theirs. Read next: `whisper.py`, `audio.py`.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import nn

from malmoi.models.bart_shape import ENCODER_KEYS, ENCODER_NAMES, TRAINING_KEYS
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.transformer_blocks import Blocks
from malmoi.nn.audio import AudioEncoder
from malmoi.nn.block import PreNorm
from malmoi.nn.norm import LayerNorm


@dataclass(frozen=True, kw_only=True)
class AudioTowerConfig:
    """A tower's shape; `max_positions` states, two frames each, are the sound that it hears at a time."""

    num_mels: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_positions: int = 1500


def build_tower(config: AudioTowerConfig, *, norm: nn.Module | None = None) -> AudioEncoder:
    """The tower; `norm` is what its states go through last. Raises ConfigError if the heads do not fit.

    >>> config = AudioTowerConfig(num_mels=80, hidden_size=64, intermediate_size=256, num_layers=1, num_heads=1)
    >>> build_tower(config).blocks[0].attention.mixer.k.bias is None
    True
    """
    blocks = pre_norm_blocks(config.hidden_size, config.num_heads, config.intermediate_size)
    return AudioEncoder(
        num_mels=config.num_mels,
        hidden_size=config.hidden_size,
        max_positions=config.max_positions,
        blocks=[blocks.encoder() for _ in range(config.num_layers)],
        norm=norm,
    )


def pre_norm_blocks(hidden_size: int, num_heads: int, intermediate_size: int) -> Blocks:
    """Whisper's two kinds of blocks: a LayerNorm before each sublayer, GELU, and keys without a bias."""
    return Blocks.of_2017(
        hidden_size=hidden_size,
        num_heads=num_heads,
        intermediate_size=intermediate_size,
        activation=F.gelu,
        residual=lambda mixer: PreNorm(LayerNorm(hidden_size), mixer),
        biases={"bias": True, "k_bias": False, "out_bias": True},
    )


TOWER_NAMES = ENCODER_NAMES | {
    "conv1.{}": "stem.first.{}",
    "conv2.{}": "stem.second.{}",
    "embed_positions.weight": "embedding.table",
}
TOWER_KEYS = ENCODER_KEYS | {"num_mel_bins": "num_mels", "max_source_positions": "max_positions"}


def read_tower(reader: ConfigReader) -> AudioTowerConfig:
    """The keys of the tower, among others or alone. Raises ConfigError on a value that asks for another one."""
    reader.require("activation_function", "gelu")
    reader.require("scale_embedding", False)
    reader.disregard(*TRAINING_KEYS)
    return AudioTowerConfig(**read_keys(reader, TOWER_KEYS, AudioTowerConfig, num_mels=80))


def write_tower(config: AudioTowerConfig) -> dict[str, Any]:
    """`read_tower` run backwards."""
    return {
        **write_keys(config, TOWER_KEYS),
        "activation_function": "gelu",
        "scale_embedding": False,
    }


def read_audio(reader: ConfigReader) -> AudioTowerConfig:
    """The tower's keys, under `audio_config`."""
    audio = reader.sub("audio_config") or ConfigReader({}, where=f"{reader.where}: audio_config")
    tower = read_tower(audio)
    audio.finish()
    return tower


def write_audio(config: AudioTowerConfig) -> dict[str, Any]:
    """`read_audio` run backwards: what stands under the key."""
    return {"model_type": "qwen2_audio_encoder", **write_tower(config)}
