from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, SiglipVisionConfig
from transformers import GemmaConfig as TheirGemma
from transformers import LlamaConfig as TheirLlama
from transformers import LlavaConfig as Theirs
from transformers import MistralConfig as TheirMistral
from transformers import Qwen2Config as TheirQwen2

from malmoi.models.clip import ClipConfig
from malmoi.models.llama import LlamaConfig
from malmoi.models.llava import LlavaConfig
from malmoi.models.mistral import MistralConfig
from malmoi.models.siglip import SiglipConfig

IMAGE = 60  # the placeholder's id
TOWER: dict[str, Any] = {"hidden_size": 12, "intermediate_size": 20, "num_layers": 2, "num_heads": 3}
PICTURES: dict[str, Any] = {"image_size": 8, "patch_size": 4}
TEXT: dict[str, Any] = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2}
HEADS: dict[str, Any] = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 6, "max_positions": 64}
OURS = {
    "llava": LlavaConfig(
        vision=ClipConfig(**TOWER, **PICTURES), text=LlamaConfig(**TEXT, **HEADS), image_token=IMAGE
    ),
    "llava, all options": LlavaConfig(
        vision=SiglipConfig(**TOWER, **PICTURES),
        text=MistralConfig(**TEXT, **HEADS, window=4, is_tied=True),
        image_token=IMAGE,
        vision_layers=(0, -1),
        strategy="full",
        has_projector_bias=False,
    ),
}


def theirs(vision: Any = None, text: Any = None, **changes: Any) -> Theirs:
    return Theirs(
        **(
            {
                "vision_config": vision or tower(CLIPVisionConfig),
                "text_config": text or llm(TheirLlama),
                "image_token_index": IMAGE,
                "architectures": ["LlavaForConditionalGeneration"],
            }
            | changes
        )
    )


def tower(config: Any, **changes: Any) -> Any:
    shape = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3}
    return config(**(shape | PICTURES | changes))


def llm(config: Any, **changes: Any) -> Any:
    shape = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    rest = {"num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": None}
    return config(**(shape | rest | changes))


THEIRS = {
    "llava": theirs(),
    "the class token too": theirs(vision_feature_select_strategy="full"),
    "the last layer": theirs(vision_feature_layer=-1),
    "several layers": theirs(vision_feature_layer=[0, -2, 2]),
    "no biases in the projector": theirs(multimodal_projector_bias=False),
    "SigLIP": theirs(tower(SiglipVisionConfig), vision_feature_select_strategy="full"),
    "SigLIP without its head": theirs(tower(SiglipVisionConfig, vision_use_head=False)),
    "Mistral": theirs(text=llm(TheirMistral, sliding_window=5)),
    "Qwen2": theirs(text=llm(TheirQwen2)),
    "Gemma, whose embeddings are scaled": theirs(text=llm(TheirGemma, head_dim=6)),
    "tied": theirs(text=llm(TheirLlama, tie_word_embeddings=True)),
}

WITHOUT_GRADIENT = {
    "*.attention.mixer.k.bias": "the softmax does not see what all keys have in common",
    "encoders.images.tower.blocks.1.*": "by default the last layer but one is shown, and the last is not computed",
    "encoders.images.tower.norm.*": "the shown layers are not normalised",
    "encoders.images.tower.head.*": "the image's one vector is not shown",
}
IS_ONE_GRAPH = False  # whether placeholders and features are as many is seen while it runs


def inputs(model: Any) -> dict[str, Tensor]:
    """A row that begins with an image, and one with an image further on."""
    config = model.config
    tokens = torch.randint(IMAGE, (2, 12))
    tokens[0, : config.num_image_tokens] = IMAGE
    tokens[1, 3 : 3 + config.num_image_tokens] = IMAGE
    return {
        "tokens": tokens,
        "images": torch.randn(2, 3, config.vision.image_size, config.vision.image_size),
    }


def call_reference(theirs: Any, inputs: dict[str, Tensor]) -> Tensor:
    logits: Tensor = theirs(
        inputs["tokens"], pixel_values=inputs["images"], attention_mask=inputs.get("mask")
    ).logits
    return logits
