"""Features in the place of tokens: how an image or a sound enters a sequence of words.

A prompt holds a placeholder id for each vector that an encoder made; their embeddings give way to the vectors, in
order (Liu et al. 2023, arXiv:2304.08485, section 4.1). Place in the flow: `multimodal` or the engine's inputs make
one, `embedding` applies it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.nn.padding import Padding


@dataclass(frozen=True)
class Splice:
    """`features[i]` stands where the i-th True of `is_placeholder` is, row by row."""

    is_placeholder: Bool[Tensor, "B T"]
    features: Float[Tensor, "P D"]

    @classmethod
    def at(
        cls, tokens: Int[Tensor, "B T"], items: Sequence[Float[Tensor, "_ D"]], *, placeholder: int
    ) -> "Splice":
        """The features of images or sounds, one after the other, in the place of every `placeholder` id.

        Raises RequestError unless they are as many, and each of the `items` lies within a row.

        >>> Splice.at(torch.tensor([[5, 9, 9]]), [torch.ones(2, 4)], placeholder=9).is_placeholder
        tensor([[False,  True,  True]])
        """
        is_placeholder = tokens == placeholder
        rows = is_placeholder.nonzero()[:, 0].tolist()  # of each place
        if len(rows) != (num_features := sum(map(len, items))):
            raise RequestError(
                f"the prompt has {len(rows)} placeholders (id {placeholder}), but its images or sounds make "
                f"{num_features} features. Render the prompt with as many placeholders as there are features."
            )
        for index, end in enumerate(accumulate(map(len, items))):
            of_item = rows[end - len(items[index]) : end]
            if of_item and of_item[0] != of_item[-1]:
                raise RequestError(
                    f"the {len(of_item)} features of image or sound {index} find {of_item.count(of_item[0])} "
                    f"placeholders (id {placeholder}) in row {of_item[0]} of the prompt, and the others in a later "
                    "row. Render each row with as many placeholders as its own images and sounds have features."
                )
        return cls(is_placeholder, torch.cat(list(items)))

    def packed(self, padding: Padding) -> "Splice":
        """The same among the tokens that are real, which all placeholders are."""
        return Splice(padding.pack(self.is_placeholder), self.features)

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
