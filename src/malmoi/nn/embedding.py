"""Token ids -> vectors, with learned positions where the family has them.

Place in the flow: the first thing that `Decoder.hidden` calls. Read next: `block`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.core.errors import RequestError
from malmoi.nn.context import Context


class Embedding(nn.Module):
    """One learned vector a token, and, if `max_positions` is given, one a position (GPT-2, BERT).

    Raises RequestError for an id outside of the vocabulary, or a position that was not learned.
    """

    def __init__(self, vocab_size: int, hidden_size: int, *, max_positions: int | None = None) -> None:
        super().__init__()
        self.tokens = _table(vocab_size, hidden_size)
        self.positions = _table(max_positions, hidden_size) if max_positions else None

    def forward(self, tokens: Int[Tensor, "B T"], context: Context) -> Float[Tensor, "B T D"]:
        try:
            x: Tensor = self.tokens(tokens)
            if self.positions is not None:
                x = x + self.positions(context.positions)
        except IndexError as error:  # PyTorch says no more than "index out of range in self"
            raise RequestError(self._what_is_outside(tokens, context)) from error
        return x

    def _what_is_outside(self, tokens: Tensor, context: Context) -> str:
        vocab_size = self.tokens.num_embeddings
        outside = tokens[(tokens < 0) | (tokens >= vocab_size)]
        if outside.numel():
            return (
                f"the id {int(outside[0])} is not in the vocabulary of {vocab_size} tokens. "
                "Encode with the tokenizer of this model."
            )
        assert self.positions is not None
        return (
            f"the sequence has {int(context.positions.max()) + 1} tokens, but this model has learned only "
            f"{self.positions.num_embeddings} positions. Shorten it."
        )


def _table(size: int, hidden_size: int) -> nn.Embedding:
    # As nn.Embedding(...) draws it, but on the meta device that loads torch._dynamo, which takes a second.
    return nn.Embedding(size, hidden_size, _weight=torch.randn(size, hidden_size))
