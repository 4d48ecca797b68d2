"""Omni: images and sounds in one prompt, over one decoder.

    pixels       -> LLaVA's tower and projector (`llava.py`)         --+
    tokens       -> the decoder's embeddings                         <-+-> the decoder, unchanged
    spectrograms -> Qwen2-Audio's tower and projector (`audio.py`)   --+

A model of this house, with keys and names of its own; each medium has the placeholder id of its page. Given only
images it is a LLaVA, given only sounds a Qwen2-Audio, bit for bit, so that it can be put together from two trained
models whose decoder is the same. Read `llava.py` and `audio.py` first.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models import audio, llava
from malmoi.models.audio_tower import AudioTowerConfig, read_audio, write_audio
from malmoi.models.base import Family, require_kind
from malmoi.models.checkpoint import build_model
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llava import LlavaConfig
from malmoi.models.llava_shape import read_shape, write_shape
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules


@dataclass(frozen=True, kw_only=True)
class OmniConfig(LlavaConfig):
    """A LLaVA's configuration, a second tower, and the placeholder's id of a sound."""

    audio: AudioTowerConfig
    audio_token: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.audio_token == self.image_token:
            raise ConfigError(
                f"image_token and audio_token are both {self.image_token}. Give each its own id."
            )


def build(config: OmniConfig) -> Multimodal:
    """The decoder of `config.text`, seeing and hearing. Raises ConfigError as its parts do.

    >>> from malmoi.models.clip import ClipConfig
    >>> from malmoi.models.llama import sized
    >>> shape = {"hidden_size": 64, "intermediate_size": 256, "num_layers": 1, "num_heads": 1}
    >>> eye, ear = ClipConfig(**shape, image_size=28, patch_size=14), AudioTowerConfig(**shape, num_mels=80)
    >>> text = sized(2, vocab_size=256, max_positions=64)
    >>> list(build(OmniConfig(vision=eye, audio=ear, text=text, image_token=254, audio_token=255)).encoders)
    ['images', 'audio']
    """
    return Multimodal(
        require_kind(build_model(config.text), Decoder, for_what="the text_config of an omni model"),
        encoders={
            "images": llava.image_encoder(config),
            "audio": audio.audio_encoder(config.audio, config.text.hidden_size),
        },
        placeholders={"images": config.image_token, "audio": config.audio_token},
    )


def rules(config: OmniConfig) -> Rules:
    """The rules of both pages; the decoder's are in LLaVA's."""
    return llava.rules(config) + audio.audio_rules()


def read_config(reader: ConfigReader) -> OmniConfig:
    """A `config.json` of our own: LLaVA's keys, and Qwen2-Audio's of the sound. Raises ConfigError as both do."""
    return OmniConfig(
        **read_shape(reader),
        audio=read_audio(reader),
        audio_token=reader.take("audio_token_index", int),
    )


def write_config(config: OmniConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **write_shape(config),
        "audio_config": write_audio(config.audio),
        "audio_token_index": config.audio_token,
    }


FAMILIES = (
    Family(
        model_type="omni",
        architecture="OmniForConditionalGeneration",
        config_class=OmniConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=("images and sounds in one prompt: a tower and a projector for each, one decoder",),
        grew_from="llava",
    ),
)
