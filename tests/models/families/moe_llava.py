from typing import Any

import torch
from torch import Tensor

from malmoi.models.clip import ClipConfig
from malmoi.models.gpt2 import GPT2Config
from malmoi.models.llama import LlamaConfig
from malmoi.models.moe_llava import MoELlavaConfig

IMAGE = 60
TOWER = ClipConfig(
    hidden_size=12, intermediate_size=20, num_layers=2, num_heads=3, image_size=8, patch_size=4
)
SMALL: dict[str, Any] = {"vocab_size": 61, "hidden_size": 24, "num_heads": 4, "max_positions": 64}
OURS = {
    "moe_llava": MoELlavaConfig(
        vision=TOWER,
        text=LlamaConfig(**SMALL, intermediate_size=40, num_layers=2, num_kv_heads=2, head_dim=6),
        image_token=IMAGE,
        num_experts=3,
        sparse_layers=(0,),
    ),
    "moe_llava, over GPT-2": MoELlavaConfig(
        vision=TOWER,
        text=GPT2Config(**SMALL, intermediate_size=40, num_layers=3),
        image_token=IMAGE,
        vision_layers=(1, -1),
        num_experts=4,
        top_k=3,
        sparse_layers=(0, 2),
    ),
}

WITHOUT_GRADIENT = {
    "*.attention.mixer.k.bias": "the softmax does not see what all keys have in common",
    "encoders.images.tower.blocks.1.*": "by default the last layer but one is shown, and the last is not computed",
    "encoders.images.tower.head.*": "the image's one vector is not shown",
}
COPIED = {
    "blocks.*.attention.mixer.*": "GPT-2 stores the other way round what it stores in one",
    "blocks.*.ffn.mixer.*": "GPT-2 stores the other way round",
}
HAS_REFERENCE = False
IS_ROUTED = True
IS_ONE_GRAPH = False  # how many tokens an expert gets is not known before they are routed


def inputs(model: Any) -> dict[str, Tensor]:
    config = model.config
    tokens = torch.randint(IMAGE, (2, 12))
    tokens[:, 3 : 3 + config.num_image_tokens] = IMAGE
    return {"tokens": tokens, "images": torch.randn(2, 3, 8, 8)}
