"""How likely a prompt is: the log-probability of each of its tokens after those before it.

Place in the flow: the runner calls it for requests that ask for `prompt_logprobs`. Read next: `sampling.py`, for the
tokens behind the prompt.
"""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from malmoi.engine.request import Candidate, Choice

ROWS_AT_ONCE = 256
"""Logits of so many positions are in memory together: of a vocabulary of 128,000 in fp32, 131 MB."""


def score(
    head: Callable[[Tensor], Tensor], hidden: Float[Tensor, "T D"], tokens: Sequence[int], *, num_top: int
) -> list[Choice]:
    """For each of `tokens` what the model says of it in the position before, whose state is in `hidden`.

    >>> [choice] = score(lambda x: x, torch.tensor([[0.5, 0.25, 0.25]]).log(), [1], num_top=1)
    >>> round(choice.chosen.probability, 4), choice.top[0].token
    (0.25, 0)
    """
    choices = []
    for start in range(0, len(tokens), ROWS_AT_ONCE):
        some = tokens[start : start + ROWS_AT_ONCE]
        logprobs = head(hidden[start : start + len(some)]).float().log_softmax(dim=-1)
        own = logprobs[range(len(some)), some]
        top = logprobs.topk(min(num_top, logprobs.shape[-1]), dim=-1)
        columns = (own, own.exp(), top.indices, top.values, top.values.exp())
        for token, *row in zip(some, *(column.tolist() for column in columns), strict=True):
            logprob, probability, *best = row
            candidates = tuple(map(Candidate, *best))
            choices.append(Choice(token, Candidate(token, logprob, probability), candidates))
    return choices
