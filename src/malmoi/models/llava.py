"""LLaVA: a decoder that sees, image features in the place of words (Liu et al. 2023, arXiv:2304.08485).

    pixels -> tower (CLIP, SigLIP) -> states of a late layer -> projector -> features --+
    tokens -> embeddings of the decoder, placeholders giving way to the features  <-----+-> the decoder, unchanged

Section 4.1; the projector of two layers is LLaVA-1.5's (arXiv:2310.03744, section 3.3). The decoder is a model of any
family that reads text, with its own page. Read `clip.py` and `nn/multimodal.py` first.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from malmoi.core.errors import ConfigError
from malmoi.models.base import Family, require_kind
from malmoi.models.checkpoint import build_model
from malmoi.models.clip import VisionShape, clip_vit_l_14_336
from malmoi.models.huggingface import ConfigReader
from malmoi.models.llama import LlamaConfig
from malmoi.models.nested import AnyConfig, nested_rules, read_nested, write_nested
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.projector import Projector
from malmoi.nn.stack import Decoder
from malmoi.nn.vision import ImageEncoder, VisionTower
from malmoi.weights.rules import Rules, renames


@dataclass(frozen=True, kw_only=True)
class LlavaConfig:
    """A LLaVA: the configurations of a tower and of a decoder, and how one sees through the other.

    `image_token` is the placeholder's id. `vision_layers` are the layers whose states are shown, counted as in
    `VisionTower.states_after`; `strategy` "default" leaves out their first state, CLIP's class token, "full" does not.
    """

    vision: AnyConfig
    text: AnyConfig
    image_token: int
    vision_layers: tuple[int, ...] = (-2,)
    strategy: Literal["default", "full"] = "default"
    has_projector_bias: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.vision, VisionShape):
            raise ConfigError(
                f"{type(self.vision).__name__} is no configuration of a vision tower. Use CLIP's or SigLIP's."
            )

    @property
    def num_image_tokens(self) -> int:
        """How many placeholders an image takes in a prompt."""
        states: int = self.vision.num_states
        return states - (self.strategy == "default")

    @property
    def num_layers(self) -> int:
        """Of the decoder."""
        num_layers: int = self.text.num_layers
        return num_layers


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


# What LLaVA's files leave out of `text_config`, and transformers fills in.
_SEVEN_BILLION = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32_000,
}
_DEFAULTS = {
    "llama": {**_SEVEN_BILLION, "intermediate_size": 11_008},
    "mistral": {**_SEVEN_BILLION, "intermediate_size": 14_336},
}


def read_config(reader: ConfigReader) -> LlavaConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    reader.require("projector_hidden_act", "gelu")
    reader.disregard("ignore_index")  # a loss's business
    text = read_nested(reader, "text_config", model_type="llama", defaults=_DEFAULTS)
    reader.require("vocab_size", text.vocab_size)  # the decoder's own key, once written here too
    if reader.take("tie_word_embeddings", bool, False):
        text = replace(text, is_tied=True)
    image_token = reader.take("image_token_index", int, reader.take("image_token_id", int, 32_000))
    reader.require("image_token_id", image_token)
    reader.require("vision_feature_select_strategy", "default", "full")
    is_full = reader.take("vision_feature_select_strategy", str, "default") == "full"
    config = LlavaConfig(
        vision=read_nested(reader, "vision_config", model_type="clip_vision_model"),
        text=text,
        image_token=image_token,
        vision_layers=read_layers(reader),
        strategy="full" if is_full else "default",
        has_projector_bias=reader.take("multimodal_projector_bias", bool, True),
    )
    # What follows from the tower, or 576, which transformers writes for every one where nobody said another number.
    reader.require("image_seq_length", config.num_image_tokens, 576)
    return config


def read_layers(reader: ConfigReader) -> tuple[int, ...]:
    """`vision_feature_layer`, one layer or a list."""
    if not isinstance(reader.raw.get("vision_feature_layer"), list):
        return (reader.take("vision_feature_layer", int, -2),)
    layers = reader.take("vision_feature_layer", list)
    if not layers or not all(type(layer) is int for layer in layers):
        raise ConfigError(
            f"{reader.where}: vision_feature_layer={layers!r} is not a list of layers. Correct it."
        )
    return tuple(layers)


def write_config(config: LlavaConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    layers = list(config.vision_layers)
    return {
        "vision_config": write_nested(config.vision),
        "text_config": write_nested(config.text),
        "image_token_index": config.image_token,
        "image_seq_length": config.num_image_tokens,
        "vision_feature_layer": layers[0] if len(layers) == 1 else layers,
        "vision_feature_select_strategy": config.strategy,
        "multimodal_projector_bias": config.has_projector_bias,
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": config.text.is_tied,
    }


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
