from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2AudioConfig as Theirs

from malmoi.models.audio import Qwen2AudioConfig
from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.llama import LlamaConfig
from malmoi.models.qwen import Qwen2Config

AUDIO_TOKEN = 60
TOWER: dict[str, Any] = {
    "num_mels": 5,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_layers": 2,
    "num_heads": 4,
}
TEXT: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 6,
    "max_positions": 64,
}
OURS = {
    "audio": Qwen2AudioConfig(
        audio=AudioTowerConfig(**TOWER, max_positions=10), text=Qwen2Config(**TEXT), audio_token=AUDIO_TOKEN
    ),
    "audio, over a Llama, states that do not pair up": Qwen2AudioConfig(
        audio=AudioTowerConfig(**TOWER, max_positions=11), text=LlamaConfig(**TEXT), audio_token=AUDIO_TOKEN
    ),
}


def theirs(text: dict[str, Any], **changes: Any) -> Theirs:
    tower = {
        "num_mel_bins": 5,
        "d_model": 16,
        "encoder_ffn_dim": 24,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "max_source_positions": 10,
    }
    small = {
        "vocab_size": 61,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    config = Theirs(audio_config=tower | changes, text_config=small | text, audio_token_index=AUDIO_TOKEN)
    config.architectures = ["Qwen2AudioForConditionalGeneration"]
    return config


THEIRS = {
    "over a Qwen2": theirs({"model_type": "qwen2"}),
    "over a Llama": theirs({"model_type": "llama"}),
    "over a tied Qwen2": theirs({"model_type": "qwen2", "tie_word_embeddings": True}),
    "states that do not pair up": theirs({"model_type": "qwen2"}, max_source_positions=11),
    "values without effect": theirs({"model_type": "qwen2"}, dropout=0.5, encoder_layerdrop=0.5),
}

WITHOUT_GRADIENT = {
    "*.attention.mixer.k.bias": "the softmax does not see what all keys have in common",
    "encoders.audio.tower.embedding.table": "sinusoids that nothing trains",
}
IS_ONE_GRAPH = False  # how many frames are sound, and so how many are attended to, is seen while it runs


def inputs(model: Any) -> dict[str, Tensor]:
    """A sound that fills its spectrogram and one that does not, in the middle and at the start of a prompt."""
    tower = model.config.audio
    tokens = torch.randint(AUDIO_TOKEN, (2, 12))
    tokens[0, 3:8] = tokens[1, :3] = AUDIO_TOKEN
    mask = torch.ones(2, 2 * tower.max_positions, dtype=torch.bool)
    mask[1, 12:] = False
    audio = torch.randn(2, tower.num_mels, 2 * tower.max_positions)
    return {"tokens": tokens, "audio": audio, "audio_mask": mask}


def call_reference(theirs: Any, inputs: dict[str, Tensor]) -> Tensor:
    logits: Tensor = theirs(
        inputs["tokens"],
        input_features=inputs["audio"],
        feature_attention_mask=inputs["audio_mask"].long(),
        attention_mask=torch.ones_like(inputs["tokens"]),
    ).logits
    return logits
