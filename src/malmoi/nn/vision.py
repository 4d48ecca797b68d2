"""Images as sequences: patches -> vectors, the tower that reads them, and what a decoder is shown of it.

    pixels (B, C, rows, columns) -> PatchEmbedding -> blocks of a VisionTower -> states (B, P, D)
    ImageEncoder: the states of some layers -> projector -> features in the width of a decoder

Place in the flow: `models/clip.py` and `models/siglip.py` build towers, `models/llava.py` puts one in front of a
decoder (`multimodal`). Read next: `projector`, `multimodal`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.core.errors import ConfigError, RequestError
from malmoi.nn.attention import CrossAttention
from malmoi.nn.block import PreNorm
from malmoi.nn.cache import CacheSpec
from malmoi.nn.context import Context
from malmoi.nn.embedding import LearnedPositions, table
from malmoi.nn.linear import Linear
from malmoi.nn.stack import EncoderOutput, Stack, caching_layers


class PatchEmbedding(nn.Module):
    """`norm([class token, projected patches] + positions)` (Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1).

    Patches are squares of `patch_size` pixels, row by row from the upper left; each is one matrix product, where
    others write a convolution. `image_size` is the side of the images, in pixels.

    Raises RequestError for images of another size.

    >>> embedding = PatchEmbedding(image_size=8, patch_size=4, num_channels=3, hidden_size=6, has_class_token=True)
    >>> embedding.num_positions, embedding.patches.weight.shape     # 2 x 2 patches of 3 x 4 x 4 numbers
    (5, torch.Size([6, 48]))
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_channels: int,
        hidden_size: int,
        has_class_token: bool = False,
        bias: bool = False,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.image_size, self.patch_size = image_size, patch_size
        self.num_positions = num_patches(image_size, patch_size) + has_class_token
        self.patches = Linear(num_channels * patch_size**2, hidden_size, bias=bias)
        self.class_token = table(1, hidden_size) if has_class_token else None
        self.positions = LearnedPositions(self.num_positions, hidden_size)
        self.norm = norm or nn.Identity()

    def forward(self, images: Float[Tensor, "B C rows columns"], context: Context) -> Float[Tensor, "B P D"]:
        if images.shape[2:] != (self.image_size, self.image_size):
            raise RequestError(
                f"the images have {images.shape[2]} x {images.shape[3]} pixels, but this vision tower takes "
                f"{self.image_size} x {self.image_size}. Prepare them with the model's image processor."
            )
        size = self.patch_size
        seen = self.image_size // size * size
        pixels = images[..., :seen, :seen].to(self.patches.weight.dtype)
        side = seen // size
        # B, C, row of patches, row in it, column of patches, column in it
        squares = pixels.reshape(*pixels.shape[:2], side, size, side, size)
        x: Tensor = self.patches(squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        if self.class_token is not None:
            x = torch.cat([self.class_token.weight.expand(len(x), 1, -1), x], dim=1)
        normed: Tensor = self.norm(x + self.positions(context.positions))
        return normed


class VisionTower(Stack):
    """Images -> a state for each patch; with a `head`, a module from states to a vector, one for each image."""

    def __init__(
        self,
        *,
        embedding: PatchEmbedding,
        blocks: Sequence[nn.Module],
        norm: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(embedding=embedding, blocks=blocks, norm=norm, max_positions=embedding.num_positions)
        self.head = head

    def cache_specs(self) -> list[CacheSpec]:
        """Those of the blocks: a head keeps nothing from them."""
        return [layer.cache_spec for layer in caching_layers(self.blocks)]

    def forward(self, images: Float[Tensor, "B C rows columns"]) -> EncoderOutput:
        """The states of every patch, and the image's vector. Raises RequestError for another size."""
        hidden = self.hidden(images, self.context(images))
        return EncoderOutput(hidden=hidden, pooled=None if self.head is None else self.head(hidden))

    def context(self, images: Float[Tensor, "B C rows columns"]) -> Context:
        """Every image a row of patches."""
        specs = self.cache_specs()
        return Context.rows(len(images), self.max_positions, specs=specs, device=images.device)

    def states_after(
        self, layers: Sequence[int], images: Float[Tensor, "B C rows columns"]
    ) -> list[Float[Tensor, "B P D"]]:
        """The states after so many blocks each, not normalised: 0 those of the embedding, -1 those of the last.

        What comes after the deepest one is not computed.
        """
        depths = [range(len(self.blocks) + 1)[layer] for layer in layers]
        found = {}
        for depth, x in enumerate(self.states(images, self.context(images))):
            if depth in depths:
                found[depth] = x
            if depth == max(depths):
                break
        return [found[depth] for depth in depths]


class ClassState(nn.Module):
    """An image's vector: the state of its class token, normalised (arXiv:2010.11929, section 3.1)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, hidden: Float[Tensor, "B P D"]) -> Float[Tensor, "B D"]:
        vector: Tensor = self.norm(hidden[:, 0])
        return vector


class AttentionPool(nn.Module):
    """An image's vector: what one learned query finds among the patches, then a feed-forward sublayer.

    The head of SigLIP (Zhai et al. 2023, arXiv:2303.15343); first in Zhai et al. 2021, arXiv:2106.04560.
    """

    def __init__(self, hidden_size: int, *, attention: CrossAttention, ffn: PreNorm) -> None:
        super().__init__()
        self.query = table(1, hidden_size)
        self.attention, self.ffn = attention, ffn

    def forward(self, hidden: Float[Tensor, "B P D"]) -> Float[Tensor, "B D"]:
        specs = [self.attention.cache_spec]
        context = Context.rows(len(hidden), 1, specs=specs, device=hidden.device, source=hidden)
        query = self.query.weight.to(hidden.dtype).expand(len(hidden), 1, -1)
        vector: Tensor = self.ffn(self.attention(query, context), context)[:, 0]
        return vector


class ImageEncoder(nn.Module):
    """Images -> the features of each for a decoder: states of some layers of a tower, side by side, projected.

    `layers` count blocks as `VisionTower.states_after` does; `num_skipped` states in front, the class token's, are
    left out.

    Raises ConfigError for a layer that the tower does not have.
    """

    def __init__(
        self, *, tower: VisionTower, projector: nn.Module, layers: Sequence[int], num_skipped: int
    ) -> None:
        super().__init__()
        depth = len(tower.blocks)
        for layer in layers:
            if not -depth - 1 <= layer <= depth:
                raise ConfigError(
                    f"vision layer {layer} of a tower of {depth} blocks. Use {-depth - 1} to {depth}."
                )
        self.tower, self.projector = tower, projector
        self.layers, self.num_skipped = tuple(layers), num_skipped

    @property
    def num_features(self) -> int:
        """Of each image."""
        return self.tower.max_positions - self.num_skipped

    def forward(self, images: Float[Tensor, "B C rows columns"]) -> list[Float[Tensor, "features D"]]:
        """The features of each image. Raises RequestError for images of another size."""
        states = self.tower.states_after(self.layers, images)
        features: Tensor = self.projector(torch.cat(states, dim=-1)[:, self.num_skipped :])
        return list(features)


def num_patches(image_size: int, patch_size: int) -> int:
    """How many patches an image of `image_size` x `image_size` pixels has; what is left at the edges is not seen.

    >>> num_patches(336, 14)
    576
    """
    return (image_size // patch_size) ** 2
