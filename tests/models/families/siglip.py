from typing import Any

import torch
from torch import Tensor
from transformers import SiglipVisionConfig as Theirs

from malmoi.models.siglip import SiglipConfig

SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "image_size": 8,
    "patch_size": 4,
}
OURS = {
    "siglip": SiglipConfig(**SMALL, num_heads=4),
    "siglip, all options": SiglipConfig(
        **SMALL, num_heads=3, num_channels=1, norm_eps=1e-4, activation="gelu", has_head=False
    ),
}


def theirs(**changes: Any) -> Theirs:
    small = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    return Theirs(
        **(small | {"image_size": 8, "patch_size": 4, "architectures": ["SiglipVisionModel"]} | changes)
    )


THEIRS = {
    "siglip": theirs(),
    "pixels that no patch covers": theirs(image_size=11),
    "no head": theirs(vision_use_head=False),
    "another activation and epsilon": theirs(hidden_act="quick_gelu", layer_norm_eps=0.1),
    "values without effect": theirs(attention_dropout=0.5),
}

WITHOUT_GRADIENT = {
    "*.attention.mixer.k.bias": "the softmax does not see what all keys have in common",
    "head.attention.k.bias": "as that of the blocks",
}


def inputs(model: Any) -> dict[str, Tensor]:
    config = model.config
    return {"images": torch.randn(2, config.num_channels, config.image_size, config.image_size)}


def call_reference(theirs: Any, inputs: dict[str, Tensor]) -> Tensor:
    out = theirs(inputs["images"])
    tensor: Tensor = out.last_hidden_state if out.pooler_output is None else out.pooler_output
    return tensor
