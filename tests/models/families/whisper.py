from typing import Any

import torch
from torch import Tensor
from transformers import WhisperConfig as Theirs

from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.whisper import WhisperConfig

OURS = {
    "whisper": WhisperConfig(
        encoder=AudioTowerConfig(
            num_mels=5, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, max_positions=10
        ),
        vocab_size=61,
        intermediate_size=40,
        num_layers=2,
        num_heads=4,
        max_positions=32,
    ),
    "whisper, a decoder of another shape": WhisperConfig(
        encoder=AudioTowerConfig(
            num_mels=3, hidden_size=12, intermediate_size=20, num_layers=2, num_heads=3, max_positions=7
        ),
        vocab_size=61,
        intermediate_size=30,
        num_layers=1,
        num_heads=2,
        max_positions=16,
    ),
}


def theirs(**changes: Any) -> Theirs:
    small = {"vocab_size": 61, "d_model": 24, "num_mel_bins": 5, "max_source_positions": 10}
    sides = {"layers": 2, "attention_heads": 4, "ffn_dim": 40}
    both = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in sides.items()}
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "decoder_start_token_id": 0}
    config = Theirs(**(small | both | special | {"max_target_positions": 32} | changes))
    config.architectures = ["WhisperForConditionalGeneration"]
    return config


THEIRS = {
    "whisper": theirs(),
    "sides of different shapes": theirs(decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=28),
    "values without effect": theirs(dropout=0.5, apply_spec_augment=True, median_filter_width=3),
}

WITHOUT_GRADIENT = {"encoder.embedding.table": "sinusoids that nothing trains"}


def inputs(model: Any) -> dict[str, Tensor]:
    encoder = model.config.encoder
    return {
        "tokens": torch.randint(61, (2, 7)),
        "audio": torch.randn(2, encoder.num_mels, 2 * encoder.max_positions),
    }


def call_reference(theirs: Any, inputs: dict[str, Tensor]) -> Tensor:
    logits: Tensor = theirs(inputs["audio"], decoder_input_ids=inputs["tokens"]).logits
    return logits
