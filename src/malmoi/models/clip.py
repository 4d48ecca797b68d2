"""CLIP's vision tower: an image as a sequence of patches (Radford et al. 2021, arXiv:2103.00020, section 2.4).

A Vision Transformer (arXiv:2010.11929): patches projected, a class token in front, learned positions; CLIP puts a
norm before the blocks and a cheap GELU in them. The other half of CLIP, its text encoder, is not here: this is what
LLaVA looks through. Read `transformer.py` and `gpt2.py` first; next `siglip.py`.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.transformer_blocks import Blocks
from malmoi.models.vision_shape import (
    ACTIVATIONS,
    BLOCK_NAMES,
    ActivationName,
    VisionShape,
    patch_rule,
    read_shape,
    write_shape,
)
from malmoi.nn.block import PreNorm
from malmoi.nn.norm import LayerNorm
from malmoi.nn.vision import ClassState, PatchEmbedding, VisionTower
from malmoi.weights.rules import Reshape, Rules, renames


@dataclass(frozen=True, kw_only=True)
class ClipConfig(VisionShape):
    """A tower of CLIP. Those of OpenCLIP have the plain GELU."""

    norm_eps: float = 1e-5
    activation: ActivationName = "quick_gelu"

    @property
    def num_states(self) -> int:
        """The class token has one too."""
        return self.num_patches + 1


def clip_vit_l_14_336() -> ClipConfig:
    """CLIP's ViT-L/14 at 336 pixels (arXiv:2103.00020, table 20).

    >>> clip_vit_l_14_336().num_patches
    576
    """
    return ClipConfig(
        hidden_size=1024, intermediate_size=4096, num_layers=24, num_heads=16, image_size=336, patch_size=14
    )


def build(config: ClipConfig) -> VisionTower:
    """The network. Its vector of an image is the class token's state, the only one that the last norm sees.

    >>> shape = {"hidden_size": 8, "intermediate_size": 16, "num_layers": 1, "num_heads": 2}
    >>> build(ClipConfig(**shape, image_size=8, patch_size=4)).blocks[0].ffn.mixer.activation.__name__
    'quick_gelu'
    """
    kinds = blocks(config)
    return VisionTower(
        embedding=patch_embedding(config, has_class_token=True, norm=norm(config)),
        blocks=[kinds.encoder() for _ in range(config.num_layers)],
        head=ClassState(norm(config)),
    )


def patch_embedding(config: VisionShape, **parts: Any) -> PatchEmbedding:
    """Patches and positions; `parts` are what a family puts in besides."""
    names = ("image_size", "patch_size", "num_channels", "hidden_size")
    return PatchEmbedding(**{name: getattr(config, name) for name in names}, **parts)


def blocks(config: VisionShape) -> Blocks:
    """Attention and feed-forward, each behind a norm, all with biases; every patch sees every other."""
    return Blocks.of_2017(
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        activation=ACTIVATIONS[config.activation],
        residual=lambda mixer: PreNorm(norm(config), mixer),
        biases={"bias": True, "out_bias": True},
    )


def norm(config: VisionShape) -> LayerNorm:
    """LayerNorm over the states."""
    return LayerNorm(config.hidden_size, eps=config.norm_eps)


CLIP_NAMES = {"pre_layrnorm.{}": "embedding.norm.{}", "post_layernorm.{}": "head.norm.{}"}


def rules(config: ClipConfig) -> Rules:
    """Hugging Face's names, a letter missing in one, and ours; the class token is a table of one."""
    width = config.hidden_size
    token = Reshape(
        "embeddings.class_embedding",
        "embedding.class_token.weight",
        theirs_shape=[width],
        ours_shape=[1, width],
    )
    return Rules([patch_rule(config), token, *renames(BLOCK_NAMES | CLIP_NAMES)])


def read_config(reader: ConfigReader) -> ClipConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    # What the image's vector is compared with in CLIP, and what a first LLaVA wrote here by mistake.
    reader.disregard("projection_dim", "vocab_size")
    return ClipConfig(**read_shape(reader, ClipConfig, patch_size=32))


def write_config(config: ClipConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return write_shape(config)


PRESETS = {"clip-vit-l-14-336": clip_vit_l_14_336}
FAMILIES = (
    Family(
        model_type="clip_vision_model",
        architecture="CLIPVisionModel",
        config_class=ClipConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "an image is a sequence: its patches, projected, with a learned position each",
            "every patch sees every other",
            "a class token in front, whose state is the image's vector",
            "a norm before the first block, and a GELU that is one sigmoid",
        ),
        grew_from="gpt2",
        ignored_tensors=("embeddings.position_ids",),
        old_prefixes={"vision_model.": ""},
    ),
)
