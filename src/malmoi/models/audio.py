"""Qwen2-Audio: a language model that hears (Chu et al. 2024, arXiv:2407.10759, section 2).

The tower is Whisper's encoder (`audio_tower.py`), the decoder one of any family here, Qwen2 in the published model.
Between them pairs of states are averaged, so that a feature is 40 ms of sound, and one matrix brings it to the width
of the decoder, where it stands in the place of an <|AUDIO|> token. Read `whisper.py` and `llava.py` first.
"""

from dataclasses import dataclass, replace
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models import whisper
from malmoi.models.audio_tower import TOWER_NAMES, AudioTowerConfig, build_tower, read_audio, write_audio
from malmoi.models.base import Family, require_kind
from malmoi.models.checkpoint import build_model
from malmoi.models.huggingface import ConfigReader
from malmoi.models.nested import AnyConfig, nested_rules, read_nested, write_nested
from malmoi.models.qwen import Qwen2Config
from malmoi.nn.audio import SoundEncoder
from malmoi.nn.linear import Linear
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class Qwen2AudioConfig:
    """A tower, a decoder, and `audio_token`, the placeholder's id."""

    audio: AudioTowerConfig
    text: AnyConfig
    audio_token: int

    def __post_init__(self) -> None:
        if getattr(self.text, "is_tied", False):
            raise ConfigError(
                "is_tied=True of the text, but Qwen2-Audio's checkpoints have a head of their own. Set it to False."
            )

    @property
    def num_layers(self) -> int:
        """Of the decoder."""
        num_layers: int = self.text.num_layers
        return num_layers


def qwen2_audio_7b() -> Qwen2AudioConfig:
    """Qwen2-Audio 7B (arXiv:2407.10759, section 2): the encoder of Whisper large v3 and Qwen 7B, 8.4B in all.

    >>> qwen2_audio_7b().text.num_heads
    32
    """
    text = Qwen2Config(
        vocab_size=156_032, hidden_size=4096, intermediate_size=11_008, num_layers=32, num_heads=32,
        num_kv_heads=32, head_dim=128, max_positions=8192, norm_eps=1e-5,
    )  # fmt: skip
    return Qwen2AudioConfig(audio=whisper.large_v3().encoder, text=text, audio_token=151_646)


def build(config: Qwen2AudioConfig) -> Multimodal:
    """The decoder of `config.text`, hearing. Raises ConfigError as its parts do.

    >>> import torch
    >>> with torch.device("meta"):
    ...     build(qwen2_audio_7b()).encoders["audio"].projector
    Linear(in_features=1280, out_features=4096, bias=True)
    """
    decoder = require_kind(build_model(config.text), Decoder, for_what="Qwen2-Audio's text_config")
    encoder = audio_encoder(config.audio, config.text.hidden_size)
    return Multimodal(decoder, encoders={"audio": encoder}, placeholders={"audio": config.audio_token})


def audio_encoder(config: AudioTowerConfig, text_size: int) -> SoundEncoder:
    """The tower, and what leads from it to a decoder that is `text_size` wide."""
    return SoundEncoder(
        tower=build_tower(config),
        norm=LayerNorm(config.hidden_size),
        projector=Linear(config.hidden_size, text_size, bias=True),
    )


def rules(config: Qwen2AudioConfig) -> Rules:
    """The decoder's rules under their prefix, and those of `audio_encoder`."""
    return nested_rules(config.text, theirs="language_model.", ours="") + audio_rules()


def audio_rules() -> Rules:
    """The tower's names under their prefix, and its last norm, which here comes after the pairs are averaged."""
    names = {
        "audio_tower.layer_norm.{}": "encoders.audio.norm.{}",
        "multi_modal_projector.linear.{}": "encoders.audio.projector.{}",
    }
    return Rules(renames(TOWER_NAMES)).under("audio_tower.", "encoders.audio.tower.") + Rules(renames(names))


# What a published file leaves out of its `text_config`, since transformers has it as the default of Qwen2.
_TEXT_DEFAULTS = {
    "qwen2": {
        "vocab_size": 151_936,
        "hidden_size": 4096,
        "intermediate_size": 22_016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32_768,
    }
}


def read_config(reader: ConfigReader) -> Qwen2AudioConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    tower = read_audio(reader)
    text = read_nested(reader, "text_config", model_type="qwen2", defaults=_TEXT_DEFAULTS)
    if getattr(text, "is_tied", False):  # the reference does not look at the key
        text = replace(text, is_tied=False)
    reader.require("vocab_size", text.vocab_size)  # another name of the same number
    reader.disregard("ignore_index")  # the loss's business
    return Qwen2AudioConfig(
        audio=tower, text=text, audio_token=reader.take("audio_token_index", int, 151_646)
    )


def write_config(config: Qwen2AudioConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        "audio_config": write_audio(config.audio),
        "text_config": write_nested(config.text),
        "audio_token_index": config.audio_token,
    }


PRESETS = {"qwen2-audio-7b": qwen2_audio_7b}
FAMILIES = (
    Family(
        model_type="qwen2_audio",
        architecture="Qwen2AudioForConditionalGeneration",
        config_class=Qwen2AudioConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "a sound in the place of tokens: Whisper's encoder, one matrix, a language model",
            "pairs of states are averaged, so that a feature is 40 ms of sound",
        ),
        grew_from="llava",
    ),
)
