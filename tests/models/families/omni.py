from typing import Any

import torch
from torch import Tensor

from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.clip import ClipConfig
from malmoi.models.llama import LlamaConfig
from malmoi.models.omni import OmniConfig
from malmoi.models.siglip import SiglipConfig

IMAGE, SOUND = 59, 60
SHAPE: dict[str, Any] = {"hidden_size": 12, "intermediate_size": 20, "num_layers": 2, "num_heads": 3}
EAR = AudioTowerConfig(**SHAPE, num_mels=5, max_positions=10)
TEXT: dict[str, Any] = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2}
HEADS: dict[str, Any] = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 6, "max_positions": 64}
OURS = {
    "omni": OmniConfig(
        vision=ClipConfig(**SHAPE, image_size=8, patch_size=4),
        audio=EAR,
        text=LlamaConfig(**TEXT, **HEADS),
        image_token=IMAGE,
        audio_token=SOUND,
    ),
    "omni, all options": OmniConfig(
        vision=SiglipConfig(**SHAPE, image_size=8, patch_size=4, has_head=False),
        audio=EAR,
        text=LlamaConfig(**TEXT, **HEADS, is_tied=True),
        image_token=IMAGE,
        audio_token=SOUND,
        vision_layers=(1, -1),
        strategy="full",
        has_projector_bias=False,
    ),
}

WITHOUT_GRADIENT = {
    "*.attention.mixer.k.bias": "the softmax does not see what all keys have in common",
    "encoders.images.tower.blocks.1.*": "by default the last layer but one is shown, and the last is not computed",
    "encoders.images.tower.norm.*": "the shown layers are not normalised",
    "encoders.images.tower.head.*": "the image's one vector is not shown",
    "encoders.audio.tower.embedding.table": "sinusoids that nothing trains",
}
HAS_REFERENCE = False
IS_ONE_GRAPH = False  # how many frames are sound is seen while it runs


def inputs(model: Any) -> dict[str, Tensor]:
    """An image and then a sound; a sound and then an image."""
    tokens = torch.randint(IMAGE, (2, 14))
    tokens[0, 1:5], tokens[0, 6:11] = IMAGE, SOUND
    tokens[1, :3], tokens[1, 8:12] = SOUND, IMAGE
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 12:] = False
    return {
        "tokens": tokens,
        "images": torch.randn(2, 3, 8, 8),
        "audio": torch.randn(2, 5, 20),
        "audio_mask": mask,
    }
