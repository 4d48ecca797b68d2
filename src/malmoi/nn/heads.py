"""What stands on an encoder: one label a text, one a token, or the token that was masked.

A head is a module `(hidden, mask) -> logits`; `mask` says which tokens are real, and None that all are.
Place in the flow: `stack.Encoder` calls it last. Read next: `models/bert_heads.py`, which says which of them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from malmoi.nn.linear import Linear
from malmoi.nn.mlp import Activation

Mask = Bool[Tensor, "B T"] | None


class Pooler(nn.Module):
    """A text's first token through one more layer, `tanh(W h + b)`: the vector that stands for the text.

    BERT learns it by next-sentence prediction (Devlin et al. 2018, arXiv:1810.04805, section 3.1).
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)

    def forward(self, hidden: Float[Tensor, "B T D"], mask: Mask = None) -> Float[Tensor, "B D"]:
        first = hidden[:, 0]
        if mask is not None:  # padding may stand on the left
            first = hidden[torch.arange(len(hidden), device=hidden.device), mask.int().argmax(dim=1)]
        return torch.tanh(self.dense(first))


class SequenceClassifier(nn.Module):
    """One row of logits a text, from what `pooler` makes of it."""

    def __init__(self, pooler: nn.Module, hidden_size: int, num_labels: int) -> None:
        super().__init__()
        self.pooler = pooler
        self.classifier = Linear(hidden_size, num_labels)

    def forward(self, hidden: Float[Tensor, "B T D"], mask: Mask = None) -> Float[Tensor, "B labels"]:
        logits: Tensor = self.classifier(self.pooler(hidden, mask))
        return logits


class TokenClassifier(nn.Module):
    """One row of logits a token."""

    def __init__(self, hidden_size: int, num_labels: int) -> None:
        super().__init__()
        self.classifier = Linear(hidden_size, num_labels)

    def forward(self, hidden: Float[Tensor, "B T D"], mask: Mask = None) -> Float[Tensor, "B T labels"]:
        logits: Tensor = self.classifier(hidden)
        return logits


class MaskedTokenHead(nn.Module):
    """Which token was there: `decoder(norm(activation(dense(h))))`; `decoder` is the embedding's table and a bias.

    >>> table = nn.Embedding(61, 8)
    >>> MaskedTokenHead(table, norm=nn.LayerNorm(8), activation=torch.tanh)(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 61])
    """

    def __init__(self, table: nn.Embedding, *, norm: nn.Module, activation: Activation) -> None:
        super().__init__()
        vocab_size, hidden_size = table.weight.shape
        self.dense = Linear(hidden_size, hidden_size)
        self.norm, self.activation = norm, activation
        self.decoder = Linear(hidden_size, vocab_size)
        self.decoder.weight = table.weight

    def forward(self, hidden: Float[Tensor, "B T D"], mask: Mask = None) -> Float[Tensor, "B T V"]:
        logits: Tensor = self.decoder(self.norm(self.activation(self.dense(hidden))))
        return logits


# --- one vector a text -------------------------------------------------------------------------------------


def first_of_each(hidden: Float[Tensor, "1 T D"], lengths: Sequence[int]) -> Float[Tensor, "B D"]:
    """The state of the first token of each of the texts that lie end to end.

    >>> first_of_each(torch.tensor([[[1.0], [2.0], [5.0]]]), [2, 1]).flatten()
    tensor([1., 5.])
    """
    starts = torch.tensor([0, *lengths[:-1]], device=hidden.device).cumsum(0)
    return hidden[0, starts]


def mean_of_each(hidden: Float[Tensor, "1 T D"], lengths: Sequence[int]) -> Float[Tensor, "B D"]:
    """The mean of the states of each text: of all poolings the one that Sentence-BERT found to serve similarity best.

    Reimers & Gurevych 2019, arXiv:1908.10084, section 6.

    >>> mean_of_each(torch.tensor([[[1.0], [2.0], [5.0]]]), [2, 1]).flatten()
    tensor([1.5000, 5.0000])
    """
    sizes = torch.tensor(lengths)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), sizes).to(hidden.device)
    sums = hidden.new_zeros(len(lengths), hidden.shape[-1]).index_add(0, owner, hidden[0])
    return sums / sizes.to(hidden.device)[:, None]
