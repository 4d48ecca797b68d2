"""Token ids -> vectors, the features that replace some, and what families add: positions, token types, a norm.

Place in the flow: the first thing that a stack's `hidden` calls. Read next: `block`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.core.errors import RequestError
from malmoi.nn.context import Context


class Embedding(nn.Module):
    """`norm(scale * tokens[id] + positions + types)`; what a family does not have is left out.

    `positions` is a module from positions (B, T) to vectors, learned (`LearnedPositions`) or not
    (`SinusoidalPositions`). `num_types` is how many token types there are (BERT's two sentences). Features of an image
    or a sound (`Context.splice`) stand for `scale * tokens[id]`: where they stand, their positions say.

    Raises RequestError for an id outside of the vocabulary.

    >>> embedding, ids = Embedding(10, 4, scale=2.0), torch.tensor([[3, 7]])
    >>> x = embedding(ids, Context.dense(ids, specs=[]))
    >>> torch.equal(x[0, 1], 2 * embedding.tokens.weight[7])
    True
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        *,
        scale: float = 1.0,
        positions: nn.Module | None = None,
        num_types: int = 0,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.tokens = table(vocab_size, hidden_size)
        self.positions = positions
        self.types = table(num_types, hidden_size) if num_types else None
        self.norm = norm or nn.Identity()

    def forward(self, tokens: Int[Tensor, "B T"], context: Context) -> Float[Tensor, "B T D"]:
        x: Tensor = self._look_up(tokens)
        if self.scale != 1.0:
            x = x * torch.tensor(self.scale, dtype=x.dtype)  # rounded as the weights are, as Gemma does
        if context.splice is not None:
            x = context.splice.into(x)
        if self.positions is not None:
            x = x + self.positions(context.positions).to(x.dtype)
        if self.types is not None:
            types = context.token_types
            x = x + self.types(torch.zeros_like(tokens) if types is None else types)
        normed: Tensor = self.norm(x)
        return normed

    def _look_up(self, tokens: Tensor) -> Tensor:
        try:
            x: Tensor = self.tokens(tokens)
        except IndexError as error:  # PyTorch says no more than "index out of range in self"
            vocab_size = self.tokens.num_embeddings
            outside = tokens[(tokens < 0) | (tokens >= vocab_size)]
            raise RequestError(
                f"the id {int(outside[0])} is not in the vocabulary of {vocab_size} tokens. "
                "Encode with the tokenizer of this model."
            ) from error
        return x


class LearnedPositions(nn.Module):
    """One learned vector a position (GPT-2, BERT). The first `offset` rows are of no position (BART keeps 2).

    Raises RequestError for a position that was not learned.
    """

    def __init__(self, max_positions: int, hidden_size: int, *, offset: int = 0) -> None:
        super().__init__()
        self.offset = offset
        self.table = table(max_positions + offset, hidden_size)

    def forward(self, positions: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        try:
            x: Tensor = self.table(positions + self.offset if self.offset else positions)
        except IndexError as error:
            raise RequestError(
                f"the sequence has {int(positions.max()) + 1} tokens, but this model has learned only "
                f"{self.table.num_embeddings - self.offset} positions. Shorten it."
            ) from error
        return x


class SinusoidalPositions(nn.Module):
    """Sines and cosines of the position at wavelengths from 2 pi to 10,000 x 2 pi; nothing is learned.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.5: even dimensions are sines, odd ones cosines.

    >>> SinusoidalPositions(4)(torch.tensor([[0, 1]]))
    tensor([[[0.0000, 1.0000, 0.0000, 1.0000],
             [0.8415, 0.5403, 0.0100, 0.9999]]])
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    def forward(self, positions: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        pairs = torch.arange(0, self.hidden_size, 2, device=positions.device)
        angles = positions[..., None] / 10_000 ** (pairs / self.hidden_size)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., : self.hidden_size]


def table(size: int, hidden_size: int) -> nn.Embedding:
    """`size` learned vectors."""
    # As nn.Embedding(...) draws it; but on the meta device that imports what takes longer than loading a small model.
    weight = torch.empty(size, hidden_size)
    if not weight.is_meta:
        weight.normal_()
    return nn.Embedding(size, hidden_size, _weight=weight)
