"""LLaVA: a decoder that sees, image features in the place of words (Liu et al. 2023, arXiv:2304.08485).

    pixels -> tower (CLIP, SigLIP) -> states of a late layer -> projector -> features --+
    tokens -> embeddings of the decoder, placeholders giving way to the features  <-----+-> the decoder, unchanged

Section 4.1; the projector of two layers is LLaVA-1.5's (arXiv:2310.03744, section 3.3). The decoder is a model of any
family that reads text, with its own page. Read `clip.py` and `nn/multimodal.py` first.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models.base import Family, require_kind
from malmoi.models.checkpoint import build_model
from malmoi.models.clip import clip_vit_l_14_336
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama import LlamaConfig
from malmoi.models.llava_shape import LlavaShape, read_shape, write_shape
from malmoi.models.nested import nested_rules
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.projector import Projector
from malmoi.nn.stack import Decoder
from malmoi.nn.vision import ImageEncoder, VisionTower
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class LlavaConfig(LlavaShape):
    """A LLaVA: a tower, a decoder, and how one sees through the other (`LlavaShape` has the fields)."""


def llava_1_5_7b() -> LlavaConfig:
    """LLaVA-1.5 7B (arXiv:2310.03744, section 3.3): Vicuna 1.5, a Llama 2, behind CLIP's ViT-L/14 at 336 pixels.

    >>> llava_1_5_7b().num_image_tokens
    576
    """
    vicuna = LlamaConfig(
        vocab_size=32_064, hidden_size=4096, intermediate_size=11_008, num_layers=32, num_heads=32,
        num_kv_heads=32, head_dim=128, max_positions=4096,
    )  # fmt: skip
    return LlavaConfig(vision=clip_vit_l_14_336(), text=vicuna, image_token=32_000)


def build(config: LlavaConfig) -> Multimodal:
    """The decoder of `config.text`, seeing. Raises ConfigError for a layer that the tower does not have."""
    decoder = require_kind(build_model(config.text), Decoder, for_what="LLaVA's text_config")
    return Multimodal(
        decoder,
        encoders={"images": image_encoder(config)},
        placeholders={"images": config.image_token},
    )


def image_encoder(config: LlavaConfig) -> ImageEncoder:
    """The tower, and what leads from it to the decoder."""
    width = config.vision.hidden_size * len(config.vision_layers)
    return ImageEncoder(
        tower=require_kind(build_model(config.vision), VisionTower, for_what="LLaVA's vision_config"),
        projector=Projector(width, config.text.hidden_size, bias=config.has_projector_bias),
        layers=config.vision_layers,
        num_skipped=int(config.strategy == "default"),
    )


def rules(config: LlavaConfig) -> Rules:
    """The decoder's rules and the tower's, each under its prefix, and the projector's."""
    projector = {
        "multi_modal_projector.linear_1.{}": "encoders.images.projector.up.{}",
        "multi_modal_projector.linear_2.{}": "encoders.images.projector.down.{}",
    }
    return (
        nested_rules(config.text, theirs="language_model.", ours="")
        + nested_rules(config.vision, theirs="vision_tower.", ours="encoders.images.tower.")
        + Rules(renames(projector))
    )


def read_config(reader: ConfigReader) -> LlavaConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    return LlavaConfig(**read_shape(reader))


def write_config(config: LlavaConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return write_shape(config)


PRESETS = {"llava-1.5-7b": llava_1_5_7b}
FAMILIES = (
    Family(
        model_type="llava",
        architecture="LlavaForConditionalGeneration",
        config_class=LlavaConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "a vision tower in front of a decoder, which stays as it is",
            "image features stand where placeholder tokens are",
            "the states of the tower's last layer but one, through a projector of two layers",
        ),
        grew_from="llama",
        ignored_tensors=(
            "vision_tower.embeddings.position_ids",
            "language_model.model.layers.{}.self_attn.rotary_emb.inv_freq",
        ),
        old_prefixes={
            "vision_tower.vision_model.": "vision_tower.",
            "model.vision_tower.vision_model.": "vision_tower.",
            "model.vision_tower.": "vision_tower.",
            "model.language_model.": "language_model.model.",
            "model.multi_modal_projector.": "multi_modal_projector.",
            "lm_head.": "language_model.lm_head.",
        },
    ),
)
