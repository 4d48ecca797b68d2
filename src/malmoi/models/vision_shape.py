"""What the Vision Transformers CLIP and SigLIP share: their shape, its words in a `config.json`, and names.

Place in the flow: a page's Config inherits `VisionShape`, its `read_config` and `write_config` call `read_shape` and
`write_shape`, its `rules` put the names together; LLaVA looks through any tower of such a shape. Read next: `clip.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F

from malmoi.models.config_keys import read_keys, write_keys
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.mlp import Activation, gelu_tanh, quick_gelu
from malmoi.nn.vision import num_patches
from malmoi.weights.rules import Reshape, Rule

ActivationName = Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"]
ACTIVATIONS: Mapping[ActivationName, Activation] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": gelu_tanh,
}


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """What every Vision Transformer has. Images are squares of `image_size` pixels, patches of `patch_size`."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    image_size: int
    patch_size: int
    num_channels: int = 3
    norm_eps: float
    activation: ActivationName

    @property
    def num_patches(self) -> int:
        return num_patches(self.image_size, self.patch_size)

    @property
    def num_states(self) -> int:
        """How many states the tower has of an image."""
        return self.num_patches


BLOCK_NAMES = {
    "encoder.layers.{}.layer_norm1.{}": "blocks.{}.attention.norm.{}",
    "encoder.layers.{}.self_attn.q_proj.{}": "blocks.{}.attention.mixer.q.{}",
    "encoder.layers.{}.self_attn.k_proj.{}": "blocks.{}.attention.mixer.k.{}",
    "encoder.layers.{}.self_attn.v_proj.{}": "blocks.{}.attention.mixer.v.{}",
    "encoder.layers.{}.self_attn.out_proj.{}": "blocks.{}.attention.mixer.out.{}",
    "encoder.layers.{}.layer_norm2.{}": "blocks.{}.ffn.norm.{}",
    "encoder.layers.{}.mlp.fc1.{}": "blocks.{}.ffn.mixer.up.{}",
    "encoder.layers.{}.mlp.fc2.{}": "blocks.{}.ffn.mixer.down.{}",
    "embeddings.position_embedding.weight": "embedding.positions.table.weight",
}


def patch_rule(config: VisionShape) -> Rule:
    """Their convolution over patches is our matrix."""
    width, channels, side = config.hidden_size, config.num_channels, config.patch_size
    return Reshape(
        "embeddings.patch_embedding.weight",
        "embedding.patches.weight",
        theirs_shape=[width, channels, side, side],
        ours_shape=[width, channels * side**2],
    )


KEYS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
    "layer_norm_eps": "norm_eps",
    "hidden_act": "activation",
}


def read_shape(reader: ConfigReader, kind: type[VisionShape], *, patch_size: int) -> dict[str, Any]:
    """The fields of `VisionShape`, with the defaults of a family's `kind`."""
    # Training's business, and what every file of an older transformers says, with words or without.
    reader.disregard("attention_dropout", "dropout", "initializer_factor", "tie_word_embeddings")
    base = {"hidden_size": 768, "intermediate_size": 3072, "num_layers": 12, "num_heads": 12}
    return read_keys(reader, KEYS, kind, **base, image_size=224, patch_size=patch_size)


def write_shape(config: VisionShape) -> dict[str, Any]:
    """`read_shape` run backwards."""
    return write_keys(config, KEYS)
