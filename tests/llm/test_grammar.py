"""An answer of a given form has that form, whatever the model would rather say; what cannot be had is refused."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import pytest

import malmoi
from malmoi.core.errors import RequestError
from malmoi.engine import SamplingParams
from malmoi.llm import LLM, TextStream
from malmoi.llm.grammar import Grammars
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer()
REVIEW = {
    "type": "object",
    "properties": {
        "감정": {"enum": ["긍정", "부정", "중립"]},
        "이유": {"type": "string", "maxLength": 12},
        "별점": {"type": "integer", "minimum": 1, "maximum": 5},
        "단어": {"type": "array", "items": {"type": "string", "pattern": "^[가-힣]{1,4}$"}, "maxItems": 2},
    },
    "required": ["감정", "이유", "별점", "단어"],
    "additionalProperties": False,
}


def is_review(text: str) -> bool:
    review = json.loads(text)
    return (
        list(review) == ["감정", "이유", "별점", "단어"]
        and review["감정"] in ("긍정", "부정", "중립")
        and isinstance(review["이유"], str)
        and len(review["이유"]) <= 12
        and review["별점"] in range(1, 6)
        and len(review["단어"]) <= 2
        and all(re.fullmatch("[가-힣]{1,4}", word) for word in review["단어"])
    )


def is_date(text: str) -> bool:
    return re.fullmatch(r"\d{4}년 (1[0-2]|[1-9])월", text) is not None


LARK = """
start: subject " " verb "."
subject: "나는" | "너는"
verb: "간다" | "온다"
"""
GBNF = """
root ::= subject " " verb "."
subject ::= "나는" | "너는"
verb ::= "간다" | "온다"
"""
SENTENCES = {f"{subject} {verb}." for subject in ("나는", "너는") for verb in ("간다", "온다")}
FORMS: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "schema": ({"json_schema": REVIEW}, is_review),
    "constant": ({"json_schema": {"const": {"a": [1, None]}}}, lambda text: text == '{"a": [1, null]}'),
    "regex": ({"regex": r"[0-9]{4}년 (1[0-2]|[1-9])월"}, is_date),
    "slash": (
        {"regex": r"/\d\d?/[가나]"},
        lambda text: re.fullmatch(r"/\d\d?/[가나]", text, re.A) is not None,
    ),
    "choice": (
        {"choice": ("긍정", '"부정"\\', "줄\n바꿈", "\x7f")},
        lambda text: text in ("긍정", '"부정"\\', "줄\n바꿈", "\x7f"),
    ),
    "lark": ({"grammar": LARK}, SENTENCES.__contains__),
    "gbnf": ({"grammar": GBNF}, SENTENCES.__contains__),
}


@pytest.mark.parametrize(("form", "is_of_it"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("vocab_size", [259, 300], ids=["exact", "rounded up"])
def test_a_model_of_bytes_that_knows_nothing_writes_the_form(
    form: dict[str, Any], is_of_it: Callable[[str], bool], vocab_size: int
) -> None:
    llm = tiny_llm(tiny_llama(vocab_size=vocab_size, max_positions=256))
    for seed in range(3):
        params = SamplingParams(seed=seed, temperature=1.5, **form)
        completion = llm.generate("?", params)
        assert is_of_it(completion.text), completion.text
        assert completion.finish_reason == "stop"


def in_turns(streams: list[TextStream]) -> Iterator[None]:
    """Read them side by side, so that the engine runs them together."""
    for _ in zip_longest(*streams):
        yield


@pytest.mark.slow
def test_fifty_hot_answers_of_the_default_model_all_parse_and_are_of_their_schema() -> None:
    llm = malmoi.load()
    streams = [
        llm.stream(
            "영화가 좋았다.\n", SamplingParams(seed=seed, temperature=1.5, top_p=1, json_schema=REVIEW)
        )
        for seed in range(50)
    ]
    for _ in in_turns(streams):
        pass
    assert all(is_review(stream.completion.text) for stream in streams)
    assert len({stream.completion.text for stream in streams}) > 40


def test_an_answer_in_a_chat_has_the_form_and_ends_its_turn() -> None:
    params = SamplingParams(seed=1, temperature=1.5, choice=("네", "아니요"))
    completion = tiny_llm().chat([{"role": "user", "content": "가니?"}], params)
    assert completion.text in ("네", "아니요")
    assert completion.finish_reason == "stop"


def test_what_the_model_wants_is_written_wherever_the_form_allows_it() -> None:
    said = '{"감정": "중립", "이유": "그저", "별점": 3, "단어": ["그저"]}'
    ids = TOKENIZER.encode(said)
    llm = tiny_llm(ScriptedModel([*ids, 0], num_prompt=1))
    assert llm.generate("?", SamplingParams(temperature=0, json_schema=REVIEW)).text == said


def test_requests_of_different_forms_run_together() -> None:
    llm = tiny_llm(tiny_llama(max_positions=256))
    streams = [
        llm.stream("?", SamplingParams(seed=seed, **form)) for seed, (form, _) in enumerate(FORMS.values())
    ]
    for _ in in_turns(streams):
        pass
    for stream, (_, is_of_it) in zip(streams, FORMS.values(), strict=True):
        assert is_of_it(stream.completion.text)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"regex": "(가"}, "regex='.가' cannot be followed: unclosed group"),
        ({"regex": "(?=가)나"}, "look-around"),
        ({"regex": "가\\"}, "it ends with a backslash that nothing follows"),
        ({"regex": "a?" * 150_000}, "it has 300,000 characters, and 16,384 are the most"),
        ({"grammar": "start: " + '"a"? ' * 60_000}, "it has 300,007 characters"),
        ({"regex": r"[^\s\S]"}, "regex leaves no way to go on"),
        ({"grammar": "start: subject"}, "unknown name: \"subject\""),
        ({"grammar": ""}, "grammar='' cannot be followed"),
        ({"json_schema": "{"}, "json_schema='{' cannot be followed"),
        ({"json_schema": "[]"}, "it is not an object"),
        ({"json_schema": "[" * 100_000}, "nested too deeply"),
        ({"json_schema": {"type": "objekt"}}, "Invalid type: objekt"),
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, "minimum .5. is greater than maximum .3."),
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "Unimplemented keys: ..uniqueItems"),
        ({"json_schema": {"items": {"minLenght": 3}}}, "unknown keyword 'minLenght'. Did you mean 'minLength'?"),
        ({"json_schema": {"anyOf": [{"properties": {"a": {"x-guidance": {}}}}]}}, "unknown keyword 'x-guidance'"),
        ({"json_schema": {"x" * 10_000: 1}}, "unknown keyword 'x{79}\\. "),
        ({"json_schema": {"dependencies": {"a": ["b"]}}}, "Unimplemented keys: ..dependencies"),
        ({"json_schema": {"$ref": "https://example.com/schema"}}, "https://example.com/schema"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_had_is_refused_at_once_and_the_next_request_runs(
    form: dict[str, Any], said: str
) -> None:
    llm = tiny_llm()
    for ask in (llm.generate, llm.stream):
        with pytest.raises(RequestError, match=said):
            ask("?", SamplingParams(**form))
    assert llm.generate("?", SamplingParams(choice="네", seed=1)).text == "네"


def test_names_that_are_keywords_elsewhere_may_be_properties() -> None:
    schema = {
        "properties": {"minLenght": {"const": 1}},
        "required": ["minLenght"],
        "additionalProperties": False,
    }
    params = SamplingParams(json_schema={"type": "object", **schema}, seed=1)
    assert json.loads(tiny_llm().generate("?", params).text) == {"minLenght": 1}


@pytest.mark.parametrize(
    "params",
    [
        {"logit_bias": {TOKENIZER.encode("네")[0]: -100}},
        {"min_tokens": 10},
        {"script_lock": "latin"},
    ],
    ids=lambda params: next(iter(params)),
)
def test_parameters_that_forbid_every_token_of_the_form_are_told(params: dict[str, Any]) -> None:
    llm = tiny_llm()
    with pytest.raises(RequestError, match="leave no token to choose"):
        llm.generate("?", SamplingParams(choice="네", **params))
    assert llm.engine.scheduler.num_blocks_in_use == 0


def test_a_form_needs_a_token_to_end_with() -> None:
    with pytest.raises(RequestError, match="regex needs a token to end the answer with"):
        LLM(tiny_llama(), TOKENIZER).generate("?", SamplingParams(regex="a"))


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    llm = tiny_llm()
    with pytest.raises(RequestError, match=r"regex needs the extra: pip install 'malmoi\[guided\]'"):
        llm.generate("?", SamplingParams(regex="a"))
    assert llm.generate("?", SamplingParams(max_tokens=2, ignore_eos=True)).tokens


def test_a_copy_of_a_rule_goes_its_own_way_and_a_wrong_token_is_told_by_the_next_mask() -> None:
    rule = Grammars(TOKENIZER, vocab_size=259).rule(SamplingParams(regex="[ab]+"), stop_ids={0})
    assert rule is not None
    a, c = TOKENIZER.encode("ac")
    copy = rule.copy()
    rule.advance(c)
    with pytest.raises(RequestError, match="regex leaves no way to go on"):
        rule.allowed()
    copy.advance(a)
    assert copy.allowed()[[a, c, 0]].tolist() == [True, False, True]
