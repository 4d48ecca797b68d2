"""SamplingParams: refused where they are wrong, by name, value and range; read from text like any configuration."""

import subprocess
import sys
from typing import Any

import pytest

from malmoi.core.config import from_mapping, override, to_mapping
from malmoi.core.errors import RequestError
from malmoi.engine import SamplingParams


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("temperature", -0.1, "0.001 to 100, or 0"),
        ("temperature", 1e-9, "0.001 to 100"),
        ("temperature", float("nan"), "0.001 to 100"),
        ("top_p", 1.5, "0 to 1"),
        ("top_k", -1, "0 to"),
        ("min_p", 2, "0 to 1"),
        ("typical_p", 0, "0.001 to 1"),
        ("max_tokens", 0, "1 to"),
        ("min_tokens", -1, "0 to"),
        ("latin_share", 1.1, "0 to 1"),
        ("frequency_penalty", 2.1, "-2 to 2"),
        ("presence_penalty", -3, "-2 to 2"),
        ("repetition_penalty", 0, "0.01 to 100"),
        ("seed", -1, "0 to"),
        ("logprobs", -1, "0 to 1000"),
        ("stop", ("",), "one character or more"),
        ("script_lock", ("",), "one character or more"),
        ("logit_bias", {5: 101}, "-100 (never) to 100"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name_and_the_range(
    name: str, value: Any, range_: str
) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}=")
    assert range_ in message


WRONG_TYPES = {
    "penalty_scope": "prompt",
    "temperature": "hot",
    "top_k": 2.5,
    "max_tokens": "3",
    "seed": True,
    "stop": [3],
    "logit_bias": {"5": 1},
    "min_tokens": 1.5,
    "regex": 3,
    "grammar": ["start: x"],
    "choice": 1,
    "script_lock": [1],
    "json_schema": {"const": {1, 2}},
}


def test_a_value_of_the_wrong_type_is_refused_too() -> None:
    # In a process of its own, because in this one the test runner itself checks the annotations.
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"items": deep}
    with pytest.raises(RequestError, match="json_schema is nested too deeply"):
        SamplingParams(json_schema=deep)
    code = f"""
from malmoi.core.errors import RequestError
from malmoi.engine import SamplingParams
for name, value in {WRONG_TYPES!r}.items():
    try:
        SamplingParams(**{{name: value}})
    except RequestError as error:
        assert str(error).startswith(name + "="), error
    else:
        raise AssertionError(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens=5 is more than max_tokens=4"),
        ({"regex": "a", "choice": ("a", "b")}, "regex and choice are given together"),
        ({"json_schema": {}, "grammar": "start: x"}, "json_schema and grammar are given together"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos=True and regex contradict each other"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        SamplingParams(**params)


def test_a_schema_is_kept_as_text_whichever_way_it_is_given() -> None:
    schema = {"enum": ["긍정", "부정"]}
    params = SamplingParams(json_schema=schema)
    assert params.json_schema == '{"enum": ["긍정", "부정"]}'
    assert params == SamplingParams(json_schema=params.json_schema)
    assert params.form == ("json_schema", params.json_schema)


def test_what_is_about_text_can_be_taken_away_for_an_engine() -> None:
    params = SamplingParams(stop="끝", regex="a", script_lock="hangul", top_k=3)
    assert (params.text_asked(), params.without_text()) == ("stop", SamplingParams(top_k=3))
    assert params.without_text().text_asked() is None


def test_one_stop_string_is_a_tuple_of_one() -> None:
    assert SamplingParams(stop="그만").stop == ("그만",)


def test_parameters_are_read_from_text_and_survive_json() -> None:
    params = override(SamplingParams(), ['logit_bias={"5": -100}', "stop=끝,그만", "logprobs=3", "top_k=40"])
    assert params == SamplingParams(logit_bias={5: -100.0}, stop=("끝", "그만"), logprobs=3, top_k=40)
    assert from_mapping(SamplingParams, to_mapping(params), where="a request") == params


def test_the_form_of_an_answer_is_read_from_text_too() -> None:
    for name, text, value in (
        ("regex", "[0-9]{3}", "[0-9]{3}"),
        ("choice", "긍정,부정", ("긍정", "부정")),
        ("json_schema", '{"type": "object"}', '{"type": "object"}'),
        ("script_lock", "hangul", ("hangul",)),
    ):
        params = override(SamplingParams(), [f"{name}={text}"])
        assert getattr(params, name) == value
        assert from_mapping(SamplingParams, to_mapping(params), where="a request") == params


def test_whoever_built_them_cannot_change_them_afterwards() -> None:
    bias = {5: 1.0}
    params = SamplingParams(logit_bias=bias)
    bias[5] = 2.0
    assert params.logit_bias == {5: 1.0}
