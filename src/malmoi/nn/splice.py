"""Features in the place of tokens: how an image or a sound enters a sequence of words.

A prompt holds a placeholder id for each vector that an encoder made; their embeddings give way to the vectors, in
order (Liu et al. 2023, arXiv:2304.08485, section 4.1). Place in the flow: `multimodal` or the engine's runner makes
one, the stack applies it right after the embedding.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from malmoi.core.errors import RequestError


@dataclass(frozen=True)
class Splice:
    """`features[i]` stands where the i-th True of `is_placeholder` is, row by row."""

    is_placeholder: Bool[Tensor, "B T"]
    features: Float[Tensor, "P D"]

    @classmethod
    def at(cls, tokens: Int[Tensor, "B T"], features: Float[Tensor, "P D"], *, placeholder: int) -> "Splice":
        """The features in the place of every `placeholder` id. Raises RequestError unless they are as many.

        >>> Splice.at(torch.tensor([[5, 9, 9]]), torch.ones(2, 4), placeholder=9).is_placeholder
        tensor([[False,  True,  True]])
        """
        is_placeholder = tokens == placeholder
        if (found := int(is_placeholder.sum())) != len(features):
            raise RequestError(
                f"the prompt has {found} placeholders (id {placeholder}), but its images or sounds make "
                f"{len(features)} features. Render the prompt with as many placeholders as there are features."
            )
        return cls(is_placeholder, features)

    def __or__(self, other: "Splice") -> "Splice":
        """Both at once: two kinds of features, in places of their own."""
        is_placeholder = self.is_placeholder | other.is_placeholder
        # Each feature's rank among all placeholders, so that the two lists interleave as the prompt does.
        rank = is_placeholder.flatten().cumsum(0) - 1
        features = self.features.new_empty(int(is_placeholder.sum()), self.features.shape[-1])
        features = features.index_copy(0, rank[self.is_placeholder.flatten()], self.features)
        features = features.index_copy(0, rank[other.is_placeholder.flatten()], other.features)
        return Splice(is_placeholder, features)

    def into(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The embeddings `x` with the features in their places.

        >>> splice = Splice(torch.tensor([[False, True]]), torch.full((1, 2), 7.0))
        >>> splice.into(torch.zeros(1, 2, 2))
        tensor([[[0., 0.],
                 [7., 7.]]])
        """
        assert self.features.shape[-1] == x.shape[-1], "features are as wide as embeddings"
        place = self.is_placeholder[..., None].expand_as(x)
        return torch.masked_scatter(x, place, self.features.to(x.dtype))
