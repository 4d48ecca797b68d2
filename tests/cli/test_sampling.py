"""Sampling parameters from the command line."""

import re

import pytest

from malmoi.cli.sampling import OPTIONS, sampling_changes
from malmoi.core.errors import MalmoiError
from malmoi.engine import SamplingParams


def test_an_option_that_was_not_given_changes_nothing() -> None:
    assert sampling_changes(assignments=(), temperature=None, top_k=None, stop=()) == {}


def test_zero_is_a_value_that_was_given() -> None:
    assert sampling_changes(assignments=(), temperature=0.0) == {"temperature": 0.0}


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("temperature=0.5", "temperature", 0.5),
        ("top_k = 40", "top_k", 40),
        ("max_tokens=none", "max_tokens", None),
        ("ignore_eos=true", "ignore_eos", True),
        ("ignore_eos=False", "ignore_eos", False),
        ('logit_bias={"5": -100}', "logit_bias", {5: -100}),
        ("penalty_scope=all", "penalty_scope", "all"),
        ("stop=끝", "stop", ("끝",)),
        (r'stop=["\n", "그만, 끝"]', "stop", ("\n", "그만, 끝")),
        ("script_lock=hangul", "script_lock", ("hangul",)),
        (r"regex=\d{1,3}=[가-힣]+", "regex", r"\d{1,3}=[가-힣]+"),
        ('choice=["네", "아니요"]', "choice", ("네", "아니요")),
        ('json_schema={"type": "object"}', "json_schema", '{"type": "object"}'),
    ],
)
def test_an_assignment_is_read_as_the_parameter_means_it(assignment: str, name: str, value: object) -> None:
    changes = sampling_changes(assignments=[assignment])
    assert getattr(SamplingParams(**changes), name) == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("temprature=1", "unknown key 'temprature'. Did you mean 'temperature'?"),
        ("temperature", "'temperature': this is not key=value."),
        ("temperature=뜨겁게", "temperature must be float, but is '뜨겁게'"),
        ("top_p=1.5", "top_p=1.5 is out of range."),
        ("logit_bias=5", "logit_bias must be "),
    ],
)
def test_a_wrong_assignment_names_the_value_and_the_remedy(assignment: str, message: str) -> None:
    with pytest.raises(MalmoiError, match=re.escape(message)):
        sampling_changes(assignments=[assignment])


def test_every_option_is_a_parameter_of_that_name() -> None:
    @OPTIONS[0]
    def command() -> None: ...

    for option in OPTIONS[1:]:
        option(command)
    names = {option.name for option in command.__click_params__} - {"model", "assignments"}  # type: ignore[attr-defined]
    assert names <= set(vars(SamplingParams()))
