from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig as Theirs

from malmoi.models.clip import ClipConfig

SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "image_size": 8,
    "patch_size": 4,
}
OURS = {
    "clip": ClipConfig(**SMALL, num_heads=4),
    "clip, all options": ClipConfig(**SMALL, num_heads=3, num_channels=1, norm_eps=1e-4, activation="gelu"),
}


def theirs(**changes: Any) -> Theirs:
    small = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    return Theirs(
        **(small | {"image_size": 8, "patch_size": 4, "architectures": ["CLIPVisionModel"]} | changes)
    )


THEIRS = {
    "clip": theirs(),
    "pixels that no patch covers": theirs(image_size=11),
    "one channel": theirs(num_channels=1),
    "OpenCLIP's activation and another epsilon": theirs(hidden_act="gelu", layer_norm_eps=0.1),
    "the tanh GELU": theirs(hidden_act="gelu_pytorch_tanh"),
    "values without effect": theirs(attention_dropout=0.5, projection_dim=7, initializer_factor=2.0),
}

WITHOUT_GRADIENT = {"*.attention.mixer.k.bias": "the softmax does not see what all keys have in common"}


def inputs(model: Any) -> dict[str, Tensor]:
    config = model.config
    return {"images": torch.randn(2, config.num_channels, config.image_size, config.image_size)}


def call_reference(theirs: Any, inputs: dict[str, Tensor]) -> Tensor:
    pooled: Tensor = theirs(inputs["images"]).pooler_output
    return pooled
