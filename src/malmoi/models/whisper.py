"""Whisper: speech to text by an encoder-decoder, its task said in tokens (Radford et al. 2022, arXiv:2212.04356).

Section 2.2: the encoder reads 30 seconds of sound as a log-mel spectrogram, through two convolutions and fixed
sinusoids; the decoder is one of text, with learned positions and tied embeddings, and attends to it. Section 2.3:
what to do is a prompt of tokens, <|startoftranscript|> <|ko|> <|transcribe|> <|notimestamps|>.
Read `bart.py` and `audio_tower.py` first; read next `audio.py`, the same tower in front of a language model.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from malmoi.models import audio_tower
from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.bart_shape import both_sides, require_both_sides
from malmoi.models.base import Family
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.output_head import output_head
from malmoi.nn.audio import AudioToText
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.norm import LayerNorm
from malmoi.nn.stack import Decoder
from malmoi.weights.rules import Rules


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """A Whisper: its encoder, and the shape of its decoder, which is as wide."""

    encoder: AudioTowerConfig
    vocab_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_positions: int = 448


def sized(num_layers: int, *, num_heads: int, vocab_size: int = 51_865, num_mels: int = 80) -> WhisperConfig:
    """Encoder and decoder of `num_layers` each, heads of 64 (arXiv:2212.04356, table 1).

    >>> sized(4, num_heads=6).encoder.hidden_size    # Whisper tiny
    384
    """
    shape = {"intermediate_size": 256 * num_heads, "num_layers": num_layers, "num_heads": num_heads}
    encoder = AudioTowerConfig(num_mels=num_mels, hidden_size=64 * num_heads, **shape)
    return WhisperConfig(encoder=encoder, vocab_size=vocab_size, **shape)


def large_v3() -> WhisperConfig:
    """The large one with 128 mel bands and one language more: 1,543 million parameters.

    >>> large_v3().vocab_size
    51866
    """
    return sized(32, num_heads=20, vocab_size=51_866, num_mels=128)


def large_v3_turbo() -> WhisperConfig:
    """The same with 4 layers of its decoder left: 809 million parameters."""
    return replace(large_v3(), num_layers=4)


def build(config: WhisperConfig) -> AudioToText:
    """The network. Raises ConfigError if the heads cannot share the width evenly.

    >>> [name for name, _ in build(sized(1, num_heads=1)).decoder.blocks[0].named_children()]
    ['attention', 'cross', 'ffn']
    """
    width = config.encoder.hidden_size
    embedding = Embedding(config.vocab_size, width, positions=LearnedPositions(config.max_positions, width))
    blocks = audio_tower.pre_norm_blocks(width, config.num_heads, config.intermediate_size)
    return AudioToText(
        encoder=audio_tower.build_tower(config.encoder, norm=LayerNorm(width)),
        decoder=Decoder(
            embedding=embedding,
            blocks=[blocks.decoder() for _ in range(config.num_layers)],
            norm=LayerNorm(width),
            head=output_head(embedding),
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
        ),
    )


OUTER_NAMES = {"model.{}.layer_norm.{}": "{}.norm.{}", "proj_out.weight": "decoder.head.weight"}


def rules(config: WhisperConfig) -> Rules:
    """Hugging Face's names and ours."""
    return both_sides(audio_tower.TOWER_NAMES, OUTER_NAMES)


KEYS = {
    "vocab_size": "vocab_size",
    "decoder_ffn_dim": "intermediate_size",
    "decoder_layers": "num_layers",
    "decoder_attention_heads": "num_heads",
    "max_target_positions": "max_positions",
}


def read_config(reader: ConfigReader) -> WhisperConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    encoder = audio_tower.read_tower(reader)
    require_both_sides(reader, num_layers=encoder.num_layers)
    # What training hides of a spectrogram, a head for classification, how to generate.
    reader.disregard("apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks")
    reader.disregard("mask_feature_prob", "mask_feature_length", "mask_feature_min_masks")
    reader.disregard("use_weighted_layer_sum", "classifier_proj_size")
    reader.disregard("median_filter_width", "forced_decoder_ids")
    return WhisperConfig(encoder=encoder, **read_keys(reader, KEYS, WhisperConfig))


def write_config(config: WhisperConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {
        **audio_tower.write_tower(config.encoder),
        "is_encoder_decoder": True,
        **write_keys(config, KEYS),
        "num_hidden_layers": config.encoder.num_layers,
        "tie_word_embeddings": True,
        "pad_token_id": None,  # else transformers assumes 50,256 and 220, whatever the vocabulary
        "begin_suppress_tokens": None,
    }


PRESETS = {
    "whisper-tiny": partial(sized, 4, num_heads=6),
    "whisper-base": partial(sized, 6, num_heads=8),
    "whisper-small": partial(sized, 12, num_heads=12),
    "whisper-medium": partial(sized, 24, num_heads=16),
    "whisper-large": partial(sized, 32, num_heads=20),
    "whisper-large-v3": large_v3,
    "whisper-large-v3-turbo": large_v3_turbo,
}
FAMILIES = (
    Family(
        model_type="whisper",
        architecture="WhisperForConditionalGeneration",
        config_class=WhisperConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "the source is a sound: a log-mel spectrogram, through two convolutions that halve its frames",
            "fixed sinusoids for the sound, learned positions for the text",
            "a LayerNorm before each sublayer; keys without a bias, which no softmax would see",
            "the task is a prompt of tokens: which language, transcribe or translate, with timestamps or not",
        ),
        grew_from="bart",
    ),
)
