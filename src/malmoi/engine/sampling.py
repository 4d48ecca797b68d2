"""From logits to the next token, for all requests of a step at once, each by its own parameters.

The order of operations, as `transformers` has it where it has them:

    1  repetition_penalty        logit / r if positive, logit * r if negative, for tokens of prompt and output
    2  frequency and presence    logit - count * frequency - (count > 0) * presence
    3  logit_bias                logit + bias; -100 forbids
    4  min_tokens, rule          what may not come now is forbidden
    5  temperature               logit / T; 0 takes the largest logit, the smallest id among equals, and ends here
    6  top_k, top_p, min_p, typical_p   cut tokens off: each looks at what the one before has left
    7  draw                      by one uniform number of the request's own

Tokens that are equally likely are kept or cut together, so what is kept never depends on how a sort breaks ties. Steps
1 to 4 are in `penalties.py`. No row's answer depends on another row.

For a beam, steps 1 to 4 are made on log-probabilities, which its search adds up, and the likeliest tokens then are what
it may go on with; nothing is drawn.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.engine.params import SamplingParams
from malmoi.engine.penalties import reshape
from malmoi.engine.request import Candidate, Choice, Continuations, Failure, Generation, Outcome

_NOT_FINITE = Failure(
    "the model's logits are not finite numbers. Its weights are damaged, its training diverged, or its precision is "
    "too low for it: try dtype=torch.float32."
)
_NO_CHOICE = Failure(
    "penalties, logit_bias, min_tokens and what the request's rule (a grammar, a script lock) allows leave no token to "
    "choose: the largest logit after them is not a finite number. Forbid fewer tokens, or penalise less."
)


FIRST_TRY = 1024
"""So many of the nearest tokens are sorted first; most often they are enough."""
LOGITS_IN_CACHE = 2**19
"""A processor takes the rows in groups of about so many logits, 2 MB, which stay in its cache from step to step."""


def sample(logits: Float[Tensor, "B V"], generations: Sequence[Generation]) -> list[Outcome]:
    """Choose the next token of each generation; nothing is changed. A beam gets `Continuations`.

    A row gets a `Failure` where a logit is NaN or infinite, or where steps 1 to 4 leave no token to choose.
    """
    is_on_cpu = logits.device.type == "cpu"
    size = max(1, LOGITS_IN_CACHE // logits.shape[-1]) if is_on_cpu else len(generations)
    outcomes: list[Outcome] = []
    for first in range(0, len(generations), size):
        group = slice(first, first + size)
        outcomes += _sample(logits[group].float(), generations[group])
    return outcomes


def _sample(logits: Float[Tensor, "B V"], generations: Sequence[Generation]) -> Sequence[Outcome]:
    is_beam = [generation.request.params.beam_width > 1 for generation in generations]
    if any(is_beam):
        of_beams = torch.tensor(is_beam, device=logits.device)[:, None]
        logits = torch.where(of_beams, logits.log_softmax(dim=-1), logits)
    shaped, failures = reshape(logits, generations)
    if shaped is not logits:
        for row, largest in enumerate(shaped.amax(dim=-1).tolist()):
            if not math.isfinite(largest) and not is_beam[row]:
                failures.setdefault(row, _NO_CHOICE)
    for row, total in enumerate(logits.sum(dim=-1).tolist()):
        if not math.isfinite(total):
            failures[row] = _NOT_FINITE
    if not failures and not any(is_beam):
        return _choose(logits, shaped, generations)
    outcomes: dict[int, Outcome] = dict(failures)
    ways: tuple[Callable[..., Sequence[Outcome]], ...] = (_choose, _continue)
    for kind, choose in enumerate(ways):
        rows = [row for row in range(len(generations)) if is_beam[row] == kind and row not in failures]
        if rows:
            is_whole = len(rows) == len(generations)
            of_rows = (logits, shaped) if is_whole else (logits[rows], shaped[rows])
            outcomes |= zip(rows, choose(*of_rows, [generations[row] for row in rows]), strict=True)
    return [outcomes[row] for row in range(len(generations))]


def _choose(
    logits: Float[Tensor, "B V"], shaped: Float[Tensor, "B V"], generations: Sequence[Generation]
) -> list[Choice]:
    """Steps 5 to 7 for rows that have a token to choose; `shaped` is what steps 1 to 4 made of `logits`."""
    params = [generation.request.params for generation in generations]
    if all(p.temperature == 0 and p.num_top_logprobs is None for p in params):
        return [Choice(token) for token in shaped.argmax(dim=-1).tolist()]
    drawn_from = weights(shaped, params)
    tokens = draw(drawn_from, [generation.uniform for generation in generations])
    return [_explain(*row) for row in zip(params, tokens, logits, drawn_from, strict=True)]


def _continue(
    logits: Float[Tensor, "B V"], shaped: Float[Tensor, "B V"], generations: Sequence[Generation]
) -> list[Continuations]:
    """What each beam may go on with: enough for all that its search keeps, also if every stop id is among them."""
    each = []
    for generation, row, shaped_row in zip(generations, logits, shaped, strict=True):
        params = generation.request.params
        count = min(params.beam_width + len(generation.request.stop_ids), len(row))
        logprobs, tokens = (likeliest.tolist() for likeliest in shaped_row.topk(count))
        drawn_from = shaped_row.exp()
        allowed = [(t, p) for t, p in zip(tokens, logprobs, strict=True) if p > -math.inf]
        each.append(
            Continuations(
                tuple(_explain(params, token, row, drawn_from) for token, _ in allowed),
                tuple(logprob for _, logprob in allowed),
            )
        )
    return each


def weights(logits: Float[Tensor, "B V"], params: Sequence[SamplingParams]) -> Float[Tensor, "B V"]:
    """Steps 5 and 6: each row's token is drawn in proportion to these numbers; what was cut off has 0.

    >>> logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    >>> weights(logits, [SamplingParams(top_p=0.6)])        # 0.5 alone is not enough, 0.5 + 0.3 is
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    temperature = _column([p.temperature or 1.0 for p in params], logits)
    scaled = (logits - logits.amax(dim=-1, keepdim=True)).div_(temperature)  # the likeliest stands at 0
    kept = scaled.softmax(dim=-1)
    if any(p.top_k or p.top_p < 1 or p.min_p for p in params):
        kept *= _at_least(scaled, _lowest_kept(scaled, kept, params))
    if typical := [row for row, p in enumerate(params) if p.typical_p < 1 and p.temperature]:
        mass = _column([params[row].typical_p for row in typical], logits)
        kept[typical] = _typical(kept[typical], mass)
    if greedy := [row for row, p in enumerate(params) if p.temperature == 0]:
        likeliest = logits[greedy].argmax(dim=-1)
        kept[greedy] = F.one_hot(likeliest, logits.shape[-1]).float()
    return kept


def _at_least(x: Float[Tensor, "B V"], least: Float[Tensor, "B 1"]) -> Float[Tensor, "B V"]:
    """1 where x >= least, else 0. Numbers, because a processor multiplies and adds them faster than booleans."""
    return torch.ge(x, least, out=torch.empty_like(x))


def _lowest_kept(
    scaled: Float[Tensor, "B V"], probabilities: Float[Tensor, "B V"], params: Sequence[SamplingParams]
) -> Float[Tensor, "B 1"]:
    """The logit of the last token that top_k, top_p and min_p keep, in each row."""
    size = scaled.shape[-1]
    lowest = _column([math.log(p.min_p) if p.min_p else -math.inf for p in params], scaled)
    top_p = _column([p.top_p if p.top_p < 1 else math.inf for p in params], scaled)
    # Tokens below (1 - top_p) / V make up less than 1 - top_p, all together: the last of the nucleus is above.
    num_likely = _at_least(probabilities, (1 - top_p) / size).sum(dim=-1, keepdim=True).long()
    last = _column([p.top_k or (size if p.top_p < 1 else 1) for p in params], scaled).long()
    has_top_k = _column([p.top_k for p in params], scaled) > 0
    last = torch.where(has_top_k, last, last.minimum(num_likely)).clamp(1, size) - 1
    falling = _falling(scaled, int(last.max()) + 1)
    cumulative = (falling.exp() * probabilities.amax(dim=-1, keepdim=True)).cumsum(dim=-1)
    whole = torch.where(has_top_k, cumulative.gather(-1, last), 1.0)
    reaching = torch.searchsorted(cumulative, top_p * whole)  # the first rank that makes top_p full
    border = falling.gather(-1, reaching.minimum(last))
    is_cut = _column([bool(p.top_k or p.top_p < 1) for p in params], scaled) > 0
    return torch.where(is_cut, border.maximum(lowest), lowest)


def _typical(kept: Float[Tensor, "B V"], mass: Float[Tensor, "B 1"]) -> Float[Tensor, "B V"]:
    """Of the tokens whose surprise is nearest to the expected one, the fewest that make up `mass`.

    Meister et al. 2022 (arXiv:2202.00666, section 4).
    """
    probabilities = kept / _total(kept)
    distance = (-probabilities.log() - _total(torch.special.entr(probabilities))).abs()
    size, k = kept.shape[-1], min(FIRST_TRY, kept.shape[-1])
    while True:
        nearest = _nearest(distance, k)
        cumulative = probabilities.gather(-1, nearest).cumsum(dim=-1)
        if k == size or (cumulative[:, -1:] >= mass).all():
            break
        k = min(8 * k, size)
    reaching = torch.searchsorted(cumulative, mass).clamp(max=k - 1)
    return kept * (distance <= distance.gather(-1, nearest.gather(-1, reaching)))


def _total(x: Float[Tensor, "B V"]) -> Float[Tensor, "B 1"]:
    """The sum of each row. `sum` adds in an order that depends on how many rows there are; this one does not."""
    return x.cumsum(dim=-1)[:, -1:]


def _column(values: Sequence[float], like: Tensor) -> Float[Tensor, "B 1"]:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def draw(drawn_from: Float[Tensor, "B V"], uniform: Sequence[float]) -> list[int]:
    """Step 7: the token at which the sum of the weights, in the order of ids, passes the part `uniform` of their total.

    `uniform` is in [0, 1).

    >>> draw(torch.tensor([[0.4, 0.0, 0.4]]), [0.6])
    [2]
    """
    cumulative = drawn_from.cumsum(dim=-1)
    total = cumulative[:, -1:]
    point = torch.tensor(uniform, dtype=torch.float32, device=drawn_from.device)[:, None] * total
    # Rounded up to the total, it would fall behind the last token that has a weight.
    point = point.minimum(total.nextafter(torch.zeros_like(total)))
    tokens: list[int] = torch.searchsorted(cumulative, point, right=True)[:, 0].tolist()
    return tokens


def _falling(scaled: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B k"]:
    """The k largest values of each row, from the largest down. On the CPU NumPy is many times as fast as PyTorch."""
    if scaled.device.type != "cpu":
        return scaled.topk(k, dim=-1).values
    rows = scaled.numpy()
    if k < rows.shape[-1]:
        rows = np.partition(rows, rows.shape[-1] - k, axis=-1)[:, -k:]
    return torch.from_numpy(np.sort(rows, axis=-1)).flip(-1)


def _nearest(distance: Float[Tensor, "B V"], k: int) -> Int[Tensor, "B k"]:
    """Where the k smallest of each row are, the smallest first; by NumPy on the CPU, as above."""
    if distance.device.type != "cpu":
        return distance.topk(k, dim=-1, largest=False).indices
    rows = distance.numpy()
    places = np.argpartition(rows, k - 1, axis=-1)[:, :k]
    order = np.take_along_axis(rows, places, axis=-1).argsort(axis=-1)
    return torch.from_numpy(np.take_along_axis(places, order, axis=-1))


def _explain(params: SamplingParams, token: int, logits: Tensor, drawn_from: Tensor) -> Choice:
    """The choice with the numbers behind it, if they are asked for: its own, and those of the likeliest tokens."""
    if params.num_top_logprobs is None:
        return Choice(token)
    logprobs = logits.log_softmax(dim=-1)
    total = drawn_from.sum()

    def candidate(token: int) -> Candidate:
        return Candidate(token, logprobs[token].item(), (drawn_from[token] / total).item())

    top: list[int] = logprobs.topk(min(params.num_top_logprobs, len(logprobs))).indices.tolist()
    return Choice(token, candidate(token), tuple(map(candidate, top)))
