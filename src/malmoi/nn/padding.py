"""Padding is taken out at the door: rows of several lengths <-> sequences end to end.

Inside a model there is no padding and no padding mask: `model(tokens, mask=...)` packs the tokens that are real, runs
once over all of them, and puts the results back in their places. Read next: `stack`, which does so.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Shaped
from torch import Tensor

from malmoi.core.errors import RequestError


@dataclass(frozen=True)
class Padding:
    """Which tokens of a batch are real: left, right or in between, positions count the real ones only.

    Raises RequestError for a row without any.

    >>> padding = Padding(torch.tensor([[True, True, False], [True, True, True]]))
    >>> padding.lengths
    [2, 3]
    >>> padding.pack(torch.tensor([[5, 6, 0], [7, 8, 9]]))
    tensor([[5, 6, 7, 8, 9]])
    >>> padding.unpack(torch.tensor([[5, 6, 7, 8, 9]]))
    tensor([[5, 6, 0],
            [7, 8, 9]])
    """

    mask: Bool[Tensor, "B T"]

    def __post_init__(self) -> None:
        if not self.mask.any(dim=1).all():
            empty = int((~self.mask.any(dim=1)).nonzero()[0])
            raise RequestError(f"row {empty} of the mask has no real token. Leave the row out.")

    @property
    def lengths(self) -> list[int]:
        """Real tokens of each row."""
        lengths: list[int] = self.mask.sum(dim=1).tolist()
        return lengths

    def pack(self, x: Shaped[Tensor, "B T *rest"]) -> Shaped[Tensor, "1 packed *rest"]:
        return x[self.mask][None]

    def unpack(self, x: Shaped[Tensor, "1 packed *rest"]) -> Shaped[Tensor, "B T *rest"]:
        """Zeros where there is padding."""
        place = self.mask.view(*self.mask.shape, *[1] * (x.ndim - 2)).expand(*self.mask.shape, *x.shape[2:])
        return x.new_zeros(place.shape).masked_scatter(place, x)
