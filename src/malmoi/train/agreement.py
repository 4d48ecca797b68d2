"""How well answers agree with people's: accuracies of labels, correlations of scores.

`objective.py` measures held-out texts with them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def accuracy(answers: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> float:
    """The share of right answers.

    >>> accuracy(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]))
    0.75
    """
    return float((answers == labels).double().mean())


def balanced_accuracy(answers: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> float:
    """The mean over the labels of the share of their texts that were answered right.

    Whoever always says the commonest label has 1 / (number of labels), however common it is.

    >>> balanced_accuracy(torch.tensor([1, 1, 1, 1]), torch.tensor([0, 1, 1, 1]))
    0.5
    """
    shares = [
        accuracy(answers[labels == label], labels[labels == label]) for label in sorted(set(labels.tolist()))
    ]
    return sum(shares) / len(shares)


def pearson(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> float:
    """The linear correlation, -1 to 1; not a number where one of the two does not vary.

    >>> round(pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0])), 4)
    0.982
    """
    x, y = (values.double() - values.double().mean() for values in (x, y))
    return float((x @ y) / (x.norm() * y.norm()))


def spearman(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> float:
    """The correlation of the ranks; equal values share the mean of theirs.

    >>> round(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 400.0])), 4)
    1.0
    """
    return pearson(ranks(x), ranks(y))


def ranks(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Where each value stands among all, from 1 on.

    >>> ranks(torch.tensor([0.5, 0.1, 0.5]))
    tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    values = values.contiguous()
    ordered = values.sort().values
    first, last = (torch.searchsorted(ordered, values, right=is_right) for is_right in (False, True))
    return (first + 1 + last).double() / 2


def agreement_of_labels(answers: Sequence[Tensor], labels: Sequence[Tensor]) -> dict[str, float]:
    """Both accuracies over all batches."""
    answered, said = torch.cat(list(answers)), torch.cat(list(labels))
    return {
        "accuracy": accuracy(answered, said),
        "balanced_accuracy": balanced_accuracy(answered, said),
        "count": len(said),
    }


def agreement_of_scores(answers: Sequence[Tensor], scores: Sequence[Tensor]) -> dict[str, float]:
    """Both correlations over all batches."""
    answered, said = torch.cat(list(answers)), torch.cat(list(scores))
    return {"pearson": pearson(answered, said), "spearman": spearman(answered, said), "count": len(said)}
