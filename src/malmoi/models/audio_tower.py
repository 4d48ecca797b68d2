"""The tower that hears: Whisper's encoder (Radford et al. 2022, arXiv:2212.04356, section 2.2), a part of pages.

Whisper puts a decoder beside it, Qwen2-Audio a language model behind it. It is no family of its own: its keys and
names are parts of theirs. Read next: `whisper.py`, `audio.py`.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import nn

from malmoi.models.huggingface import ConfigReader
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, CrossAttention, head_width
from malmoi.nn.audio import AudioEncoder
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.mlp import MLP
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
    blocks = PreNormBlocks(config.hidden_size, config.num_heads, config.intermediate_size)
    return AudioEncoder(
        num_mels=config.num_mels,
        hidden_size=config.hidden_size,
        max_positions=config.max_positions,
        blocks=[blocks.encoder() for _ in range(config.num_layers)],
        norm=norm,
    )


@dataclass(frozen=True)
class PreNormBlocks:
    """Whisper's two kinds of blocks: a LayerNorm before each sublayer, GELU, and keys without a bias."""

    hidden_size: int
    num_heads: int
    intermediate_size: int

    def encoder(self) -> Block:
        """Every state sees every other."""
        return self._block(attention=self._self_attention(is_causal=False), ffn=self._mlp())

    def decoder(self) -> Block:
        """Each token sees those before it, and then the whole sound."""
        cross = CrossAttention(**self._heads)
        return self._block(attention=self._self_attention(is_causal=True), cross=cross, ffn=self._mlp())

    def _block(self, **mixers: nn.Module) -> Block:
        return Block(**{name: PreNorm(LayerNorm(self.hidden_size), mixer) for name, mixer in mixers.items()})

    def _self_attention(self, *, is_causal: bool) -> Attention:
        rule = AttentionRule(is_causal=is_causal)
        return Attention(num_kv_heads=self.num_heads, rule=rule, rope=None, **self._heads)

    def _mlp(self) -> MLP:
        return MLP(self.hidden_size, self.intermediate_size, activation=F.gelu, bias=True)

    @property
    def _heads(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden_size,
            "num_heads": self.num_heads,
            "head_dim": head_width(self.hidden_size, self.num_heads),
            "bias": True,
            "k_bias": False,
            "out_bias": True,
        }


LAYER_NAMES = {
    "layers.{}.self_attn_layer_norm.{}": "blocks.{}.attention.norm.{}",
    "layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.mixer.q.{}",
    "layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.mixer.k.{}",
    "layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.mixer.v.{}",
    "layers.{}.self_attn.out_proj.{}": "blocks.{}.attention.mixer.out.{}",
    "layers.{}.final_layer_norm.{}": "blocks.{}.ffn.norm.{}",
    "layers.{}.fc1.{}": "blocks.{}.ffn.mixer.up.{}",
    "layers.{}.fc2.{}": "blocks.{}.ffn.mixer.down.{}",
}
TOWER_NAMES = LAYER_NAMES | {
    "conv1.{}": "stem.first.{}",
    "conv2.{}": "stem.second.{}",
    "embed_positions.weight": "embedding.table",
}


def read_tower(reader: ConfigReader) -> AudioTowerConfig:
    """The keys of the tower, among others or alone. Raises ConfigError on a value that asks for another one."""
    reader.require("activation_function", "gelu")
    reader.require("scale_embedding", False)
    reader.disregard("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "init_std")
    return AudioTowerConfig(
        num_mels=reader.positive("num_mel_bins", int, 80),
        hidden_size=reader.positive("d_model", int),
        intermediate_size=reader.positive("encoder_ffn_dim", int),
        num_layers=reader.positive("encoder_layers", int),
        num_heads=reader.positive("encoder_attention_heads", int),
        max_positions=reader.positive("max_source_positions", int, 1500),
    )


def write_tower(config: AudioTowerConfig) -> dict[str, Any]:
    """`read_tower` run backwards."""
    return {
        "num_mel_bins": config.num_mels,
        "d_model": config.hidden_size,
        "encoder_ffn_dim": config.intermediate_size,
        "encoder_layers": config.num_layers,
        "encoder_attention_heads": config.num_heads,
        "max_source_positions": config.max_positions,
        "activation_function": "gelu",
        "scale_embedding": False,
    }
