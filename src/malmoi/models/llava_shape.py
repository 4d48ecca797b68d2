"""What LLaVA and the models that grew from it share: their shape, and its words in a `config.json`.

Place in the flow: LLaVA's Config inherits `LlavaShape`, those of MoE-LLaVA and Omni add to it; their `read_config` and
`write_config` call `read_shape` and `write_shape`. Tower and decoder are read by their own pages (`nested.py`). Read
next: `llava.py`.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from malmoi.core.errors import ConfigError
from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.models.nested import AnyConfig, read_nested, write_nested
from malmoi.models.vision_shape import VisionShape


@dataclass(frozen=True, kw_only=True)
class LlavaShape:
    """The configurations of a tower and of a decoder, and how one sees through the other.

    `image_token` is the placeholder's id. `vision_layers` are the layers whose states are shown, counted as in
    `VisionTower.states_after`; `strategy` "default" leaves out their first state, CLIP's class token, "full" does not.

    Raises ConfigError if `vision` is no tower's configuration.
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
KEYS = {"vision_feature_select_strategy": "strategy", "multimodal_projector_bias": "has_projector_bias"}


def read_shape(reader: ConfigReader) -> dict[str, Any]:
    """The fields of `LlavaShape`. Raises ConfigError as tower and decoder do."""
    reader.require("projector_hidden_act", "gelu")
    reader.disregard("ignore_index")  # a loss's business
    text = read_nested(reader, "text_config", model_type="llama", defaults=_DEFAULTS)
    reader.require("vocab_size", text.vocab_size)  # the decoder's own key, once written here too
    if reader.take("tie_word_embeddings", bool, False):
        text = replace(text, is_tied=True)
    image_token = reader.take("image_token_index", int, reader.take("image_token_id", int, 32_000))
    reader.require("image_token_id", image_token)
    shape = LlavaShape(
        vision=read_nested(reader, "vision_config", model_type="clip_vision_model"),
        text=text,
        image_token=image_token,
        vision_layers=read_layers(reader),
        **read_keys(reader, KEYS, LlavaShape),
    )
    # What follows from the tower, or 576, which transformers writes for every one where nobody said another number.
    reader.require("image_seq_length", shape.num_image_tokens, 576)
    return vars(shape)


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


def write_shape(config: LlavaShape) -> dict[str, Any]:
    """`read_shape` run backwards."""
    layers = list(config.vision_layers)
    return {
        "vision_config": write_nested(config.vision),
        "text_config": write_nested(config.text),
        "image_token_index": config.image_token,
        "image_seq_length": config.num_image_tokens,
        "vision_feature_layer": layers[0] if len(layers) == 1 else layers,
        **write_keys(config, KEYS),
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": config.text.is_tied,
    }
