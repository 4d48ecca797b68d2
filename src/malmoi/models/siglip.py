"""SigLIP's vision tower: CLIP's without a class token (Zhai et al. 2023, arXiv:2303.15343).

What SigLIP changes is its loss, a sigmoid for each pair of image and text; of the tower it leaves out the class token
and the first norm, normalises all last states, and lets a learned query attend to them where CLIP reads one. Read
`clip.py` first.
"""

from dataclasses import dataclass
from typing import Any

from malmoi.models import clip
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.vision_shape import (
    BLOCK_NAMES,
    ActivationName,
    VisionShape,
    patch_rule,
    read_shape,
    write_shape,
)
from malmoi.nn.attention import CrossAttention, head_width
from malmoi.nn.block import PreNorm
from malmoi.nn.vision import AttentionPool, VisionTower
from malmoi.weights.rules import Reshape, Rules, Split, renames


@dataclass(frozen=True, kw_only=True)
class SiglipConfig(VisionShape):
    """A tower of SigLIP, with the head that makes one vector of an image, or without."""

    norm_eps: float = 1e-6
    activation: ActivationName = "gelu_pytorch_tanh"
    has_head: bool = True


def siglip_so400m_14_384() -> SiglipConfig:
    """SigLIP's SoViT-400m/14 at 384 pixels (arXiv:2303.15343, section 4.4; the shape is that of arXiv:2305.13035).

    >>> siglip_so400m_14_384().num_patches      # 27 x 27: the last six pixels are not seen
    729
    """
    return SiglipConfig(
        hidden_size=1152, intermediate_size=4304, num_layers=27, num_heads=16, image_size=384, patch_size=14
    )


def build(config: SiglipConfig) -> VisionTower:
    """CLIP's blocks between another embedding and another end."""
    kinds = clip.blocks(config)
    attention = CrossAttention(
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        head_dim=head_width(config.hidden_size, config.num_heads),
        bias=True,
        out_bias=True,
    )
    ffn = PreNorm(clip.norm(config), kinds.mlp())
    head = AttentionPool(config.hidden_size, attention=attention, ffn=ffn)
    return VisionTower(
        embedding=clip.patch_embedding(config, bias=True),
        blocks=[kinds.encoder() for _ in range(config.num_layers)],
        norm=clip.norm(config),
        head=head if config.has_head else None,
    )


SIGLIP_NAMES = {
    "embeddings.patch_embedding.bias": "embedding.patches.bias",
    "post_layernorm.{}": "norm.{}",
    "head.attention.out_proj.{}": "head.attention.out.{}",
    "head.layernorm.{}": "head.ffn.norm.{}",
    "head.mlp.fc1.{}": "head.ffn.mixer.up.{}",
    "head.mlp.fc2.{}": "head.ffn.mixer.down.{}",
}


def rules(config: SiglipConfig) -> Rules:
    """Hugging Face's names and ours; in the head, queries, keys and values are one of their matrices."""
    width = config.hidden_size
    qkv, sizes = [f"head.attention.{name}." for name in "qkv"], [width] * 3
    return Rules(
        [
            patch_rule(config),
            Reshape("head.probe", "head.query.weight", theirs_shape=[1, 1, width], ours_shape=[1, width]),
            Split("head.attention.in_proj_weight", [name + "weight" for name in qkv], dim=0, sizes=sizes),
            Split("head.attention.in_proj_bias", [name + "bias" for name in qkv], dim=0, sizes=sizes),
            *renames(BLOCK_NAMES | SIGLIP_NAMES),
        ]
    )


def read_config(reader: ConfigReader) -> SiglipConfig:
    """A `config.json` of transformers 4 or 5. Raises ConfigError on a value that asks for another network."""
    shape = read_shape(reader, SiglipConfig, patch_size=16)
    return SiglipConfig(**shape, has_head=reader.take("vision_use_head", bool, True))


def write_config(config: SiglipConfig) -> dict[str, Any]:
    """`read_config` run backwards."""
    return {**write_shape(config), "vision_use_head": config.has_head}


PRESETS = {"siglip-so400m-14-384": siglip_so400m_14_384}
FAMILIES = (
    Family(
        model_type="siglip_vision_model",
        architecture="SiglipVisionModel",
        config_class=SiglipConfig,
        build=build,
        rules=rules,
        read_config=read_config,
        write_config=write_config,
        ideas=(
            "no class token: a learned query attends to all patches for the image's vector",
            "a norm after the last block instead of one before the first",
        ),
        grew_from="clip_vision_model",
        ignored_tensors=("embeddings.position_ids",),
        old_prefixes={"vision_model.": ""},
    ),
)
