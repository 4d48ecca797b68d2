"""Admission: what could never be served is refused with the sizes, and what is let in ends."""

from typing import Any

import pytest

from malmoi.core.errors import RequestError
from malmoi.engine import Request, SamplingParams
from malmoi.engine.admission import Admission
from malmoi.engine.groups import Group


def admission(num_blocks: int = 8, num_source_blocks: int = 0, **changes: int) -> Admission:
    sizes: Any = {"block_size": 4, "tokens_per_step": 16}
    groups = [Group(num_blocks=num_blocks, **sizes)]
    if num_source_blocks:
        groups.append(Group(num_blocks=num_source_blocks, is_of_source=True, **sizes))
    limits = {"tokens_per_step": 16, "max_requests": 4, "context_length": 32} | changes
    return Admission(groups=tuple(groups), **limits)


def prompt(num_tokens: int, **params: Any) -> Request:
    return Request(tokens=[1] * num_tokens, params=SamplingParams(**params))


@pytest.mark.parametrize(
    ("request_", "limits", "said"),
    [
        (prompt(0), {}, "the prompt is empty"),
        (prompt(32), {}, r"32 tokens, but the model's context has room for 32.*Shorten the prompt to 31"),
        (prompt(17), {"num_blocks": 4}, r"17 tokens, but the cache .*cache_bytes.* has room for 16"),
        (prompt(9, beam_width=4), {}, r"9 tokens, but the cache .*each of 4 beams.* has room for 8"),
        (prompt(1, beam_width=5), {}, r"beam_width=5 is more than run at a time: .*max_requests is 4"),
        (
            Request(tokens=[1], source=[1] * 9, params=SamplingParams(beam_width=2)),
            {"num_source_blocks": 4, "source_length": 12},
            r"source has 9 tokens, but the cache .*each of 2 beams.* has room for 8",
        ),
    ],
)
def test_a_request_that_can_never_be_served_is_refused_with_the_sizes(
    request_: Request, limits: dict[str, int], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        admission(**limits).check(request_)


@pytest.mark.parametrize(
    ("request_", "limits"),
    [
        (prompt(31), {}),
        (prompt(7, beam_width=4), {}),
        (
            Request(tokens=[1], source=[1] * 8, params=SamplingParams(beam_width=2)),
            {"num_source_blocks": 4, "source_length": 12},
        ),
    ],
)
def test_one_that_just_fits_is_let_in(request_: Request, limits: dict[str, int]) -> None:
    admission(**limits).check(request_)


@pytest.mark.parametrize("priority", [1.0, "1", None, True])
def test_a_priority_that_is_no_whole_number_is_refused(priority: object) -> None:
    wrong = prompt(1)
    object.__setattr__(wrong, "priority", priority)
    with pytest.raises(RequestError, match="is no whole number. Give one; lower goes first"):
        admission().check(wrong)
