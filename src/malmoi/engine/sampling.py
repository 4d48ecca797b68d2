"""From logits to the next token, for all requests of a step at once, each by its own parameters.

The order of operations, as `transformers` has it where it has them:

    1  repetition_penalty        logit / r if positive, logit * r if negative, for tokens of prompt and output
    2  frequency and presence    logit - count * frequency - (count > 0) * presence
    3  logit_bias                logit + bias; -100 forbids
    4  temperature               logit / T; 0 takes the largest logit, the smallest id among equals, and ends here
    5  top_k, top_p, min_p       cut the tail off: each looks at what the one before has left
    6  draw                      by one uniform number of the request's own

Tokens that are equally likely are kept or cut together, so what is kept never depends on how a sort breaks ties.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from malmoi.engine.params import SamplingParams
from malmoi.engine.request import Candidate, Choice, Failure, Generation

_NOT_FINITE = Failure(
    "the model's logits are not finite numbers. Its weights are damaged, its training diverged, or its precision is "
    "too low for it: try dtype=torch.float32."
)
_NO_CHOICE = Failure(
    "penalties and logit_bias leave no token to choose: the largest logit after them is not a finite number. Forbid "
    "fewer tokens, or penalise less."
)


def sample(logits: Float[Tensor, "B V"], generations: Sequence[Generation]) -> list[Choice | Failure]:
    """Choose the next token of each generation; nothing is changed.

    A row gets a `Failure` where a logit is NaN or infinite, or where steps 1 to 3 leave no token to choose.
    """
    logits = logits.float()
    failures = [None if is_finite else _NOT_FINITE for is_finite in logits.sum(dim=-1).isfinite().tolist()]
    shaped = logits
    if any(_reshapes(generation.request.params) for generation in generations):
        shaped = torch.stack([reshape(row, g) for row, g in zip(logits, generations, strict=True)])
        has_choice = shaped.amax(dim=-1).isfinite().tolist()
        failures = [
            failure or (None if has else _NO_CHOICE)
            for failure, has in zip(failures, has_choice, strict=True)
        ]
    sound = [row for row, failure in enumerate(failures) if failure is None]
    if len(sound) < len(failures):
        logits, shaped = logits[sound], shaped[sound]
    choices = iter(_choose(logits, shaped, [generations[row] for row in sound]))
    return [failure or next(choices) for failure in failures]


def _choose(
    logits: Float[Tensor, "B V"], shaped: Float[Tensor, "B V"], generations: Sequence[Generation]
) -> list[Choice]:
    """Steps 4 to 6 for rows that have a token to choose; `shaped` is what steps 1 to 3 made of `logits`."""
    params = [generation.request.params for generation in generations]
    if all(p.temperature == 0 and p.num_top_logprobs is None for p in params):
        return [Choice(token) for token in shaped.argmax(dim=-1).tolist()]
    probabilities = distribution(shaped, params)
    tokens = draw(probabilities, [generation.uniform for generation in generations])
    return [_explain(*row) for row in zip(params, tokens, logits, probabilities, strict=True)]


def _reshapes(params: SamplingParams) -> bool:
    return bool(
        params.repetition_penalty != 1
        or params.frequency_penalty
        or params.presence_penalty
        or params.logit_bias
    )


def reshape(logits: Float[Tensor, " V"], generation: Generation) -> Float[Tensor, " V"]:
    """Steps 1 to 3 for one request: penalties for what occurred, and the bias."""
    params = generation.request.params
    logits = logits.clone()
    if params.repetition_penalty != 1:
        seen = _tensor(generation.ids, logits.device)
        old = logits[seen]
        logits[seen] = torch.where(old < 0, old * params.repetition_penalty, old / params.repetition_penalty)
    if params.frequency_penalty or params.presence_penalty:
        counted = generation.ids if params.penalty_scope == "all" else generation.tokens
        counts = torch.bincount(_tensor(counted, logits.device), minlength=len(logits))
        logits -= counts * params.frequency_penalty + (counts > 0) * params.presence_penalty
    for token, bias in params.logit_bias.items():
        logits[token] += bias if bias > -100 else -math.inf
    return logits


def distribution(logits: Float[Tensor, "B V"], params: Sequence[SamplingParams]) -> Float[Tensor, "B V"]:
    """Steps 4 and 5: the probabilities from which each row's token is drawn.

    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> distribution(logits, [SamplingParams(top_p=0.6)])        # 0.5 alone is not enough, 0.5 + 0.3 is
    tensor([[0.6250, 0.3750, 0.0000]])
    """
    temperature = _column([p.temperature or 1.0 for p in params], logits)
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / temperature  # the likeliest stands at 0
    lowest = _column([math.log(p.min_p) if p.min_p else -math.inf for p in params], logits)
    if any(p.top_k or p.top_p < 1 for p in params):
        lowest = lowest.maximum(_lowest_kept(scaled, params))
    probabilities = scaled.masked_fill(scaled < lowest, -math.inf).softmax(dim=-1)
    if greedy := [row for row, p in enumerate(params) if p.temperature == 0]:
        likeliest = logits[greedy].argmax(dim=-1)
        probabilities[greedy] = F.one_hot(likeliest, logits.shape[-1]).float()
    return probabilities


def _lowest_kept(scaled: Float[Tensor, "B V"], params: Sequence[SamplingParams]) -> Float[Tensor, "B 1"]:
    """The logit of the last token that top_k and top_p keep, in each row."""
    size = scaled.shape[-1]
    falling = _sorted(scaled)
    last = _column([(p.top_k or size) - 1 for p in params], scaled).clamp(max=size - 1)
    if any(p.top_k for p in params):
        rank = torch.arange(size, device=scaled.device)
        falling = falling.masked_fill(rank > last, -math.inf)
    cumulative = falling.softmax(dim=-1).cumsum(dim=-1)
    top_p = _column([p.top_p if p.top_p < 1 else math.inf for p in params], scaled)
    reaching = torch.searchsorted(cumulative, top_p)  # the first rank that makes top_p full
    return falling.gather(-1, reaching.minimum(last.long()))


def _column(values: Sequence[float], like: Tensor) -> Float[Tensor, "B 1"]:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def draw(probabilities: Float[Tensor, "B V"], uniform: Sequence[float]) -> list[int]:
    """Step 6: the token at which the cumulative probability, in the order of ids, passes `uniform` in [0, 1).

    >>> draw(torch.tensor([[0.5, 0.0, 0.5]]), [0.6])
    [2]
    """
    cumulative = probabilities.cumsum(dim=-1)
    total = cumulative[:, -1:]  # 1, but for rounding
    point = torch.tensor(uniform, dtype=torch.float32, device=probabilities.device)[:, None] * total
    # Rounded up to the total, it would fall behind the last token that has a probability.
    point = point.minimum(total.nextafter(torch.zeros_like(total)))
    tokens: list[int] = torch.searchsorted(cumulative, point, right=True)[:, 0].tolist()
    return tokens


def _sorted(scaled: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
    """Each row from its largest value down. On the CPU NumPy's sort takes a thirtieth of the time of PyTorch's."""
    if scaled.device.type == "cpu":
        return torch.from_numpy(np.sort(scaled.numpy(), axis=-1)).flip(-1)
    return scaled.sort(dim=-1, descending=True).values


def _explain(params: SamplingParams, token: int, logits: Tensor, probabilities: Tensor) -> Choice:
    """The choice with the numbers behind it, if they are asked for: its own, and those of the likeliest tokens."""
    if params.num_top_logprobs is None:
        return Choice(token)
    logprobs = logits.log_softmax(dim=-1)

    def candidate(token: int) -> Candidate:
        return Candidate(token, logprobs[token].item(), probabilities[token].item())

    top: list[int] = logprobs.topk(min(params.num_top_logprobs, len(logprobs))).indices.tolist()
    return Choice(token, candidate(token), tuple(map(candidate, top)))


def _tensor(ids: Sequence[int], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(ids, dtype=np.int64)).to(device)
