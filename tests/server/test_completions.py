"""/v1/completions with several prompts, with the prompt before its answer, and with the best of several answers."""

import json
from typing import Any

import pytest
from tests.server.conftest import Served

from malmoi.engine import SamplingParams

PATH = "/v1/completions"
PROMPTS = ["말", "모이", "한글은"]


def whole(served: Served, **body: Any) -> list[dict[str, Any]]:
    response = served.post(PATH, **body)
    assert response.status_code == 200, response.text
    choices: list[dict[str, Any]] = response.json()["choices"]
    return choices


def streamed(served: Served, **body: Any) -> list[dict[str, Any]]:
    """What the chunks of a stream make, choice by choice."""
    told: dict[int, dict[str, Any]] = {}
    for chunk in served.chunks(PATH, **body):
        for choice in chunk["choices"]:
            so_far = told.setdefault(choice["index"], {**choice, "text": "", "logprobs": None})
            so_far["text"] += choice["text"]
            so_far["finish_reason"] = so_far["finish_reason"] or choice["finish_reason"]
            if (more := choice["logprobs"]) is not None:
                before = so_far["logprobs"] or {name: [] for name in more}
                so_far["logprobs"] = {name: before[name] + more[name] for name in more}
    return [told[index] for index in sorted(told)]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("more", [{}, {"echo": True}, {"echo": True, "logprobs": 2}], ids=str)
def test_a_stream_of_several_prompts_says_what_the_whole_says(
    tiny: Served, n: int, more: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"prompt": PROMPTS, "n": n, "seed": 3, "max_tokens": 9, **more}
    wanted = whole(tiny, **asked)
    assert [choice["index"] for choice in wanted] == list(range(len(PROMPTS) * n))
    found = streamed(tiny, **asked)
    for one, other in zip(found, wanted, strict=True):
        assert (one["index"], one["text"], one["finish_reason"]) == (
            other["index"], other["text"], other["finish_reason"],
        )  # fmt: skip
        if "logprobs" in more:
            assert one["logprobs"]["tokens"] == other["logprobs"]["tokens"]
            assert one["logprobs"]["text_offset"] == other["logprobs"]["text_offset"]
            assert one["logprobs"]["token_logprobs"][0] is None
            assert one["logprobs"]["token_logprobs"][1:] == pytest.approx(
                other["logprobs"]["token_logprobs"][1:], abs=1e-5
            )
    for place, prompt in enumerate(PROMPTS if "echo" in more else []):
        assert all(one["text"].startswith(prompt) for one in found[place * n : (place + 1) * n])


def test_a_stream_of_several_prompts_counts_each_once(tiny: Served) -> None:
    asked: dict[str, Any] = {"prompt": PROMPTS, "n": 2, "max_tokens": 4, "ignore_eos": True}
    *_, last = tiny.chunks(PATH, **asked, stream_options={"include_usage": True})
    used = tiny.post(PATH, **asked).json()["usage"]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [last["usage"][name] for name in names] == [used[name] for name in names]
    assert used["completion_tokens"] == 4 * 6


def test_what_is_wrong_with_one_of_several_prompts_has_a_status(tiny: Served) -> None:
    response = tiny.post(PATH, prompt=["말", "가" * 400], stream=True)
    assert response.status_code == 400
    tiny.until_idle()
    assert not tiny.num_blocks_in_use


def test_who_leaves_a_stream_of_several_prompts_ends_all_of_it(endless: Served) -> None:
    body = {"prompt": PROMPTS, "ignore_eos": True, "stream": True, "n": 2}
    with endless.http.stream("POST", PATH, json=body) as response:
        lines = response.iter_lines()
        seen: set[int] = set()
        while len(seen) < 6:
            line = next(lines)
            if line.startswith("data:"):
                seen |= {choice["index"] for choice in json.loads(line.removeprefix("data:"))["choices"]}
    endless.until_idle()
    assert not endless.num_blocks_in_use


def test_no_token_at_all_is_the_prompt_and_its_likelihoods(tiny: Served) -> None:
    for prompt in ("말모이", tiny.llm.builder.prompt_ids("말모이")):
        [choice] = whole(tiny, prompt=prompt, max_tokens=0, echo=True, logprobs=1)
        [with_one] = whole(tiny, prompt=prompt, max_tokens=1, echo=True, logprobs=1)
        assert (choice["text"], choice["finish_reason"]) == ("말모이", "length")
        told, more = choice["logprobs"], with_one["logprobs"]
        assert told["tokens"] == more["tokens"][:-1]
        assert told["token_logprobs"][1:] == pytest.approx(more["token_logprobs"][1:-1], abs=1e-6)
    used = tiny.post(PATH, prompt="말모이", max_tokens=0, echo=True).json()["usage"]
    assert (used["completion_tokens"], used["total_tokens"]) == (0, used["prompt_tokens"])


def test_the_best_of_several_are_the_likeliest_by_the_token(tiny: Served) -> None:
    asked: dict[str, Any] = {"prompt": "말", "seed": 5, "max_tokens": 6, "ignore_eos": True}
    alone = tiny.llm.generate("말", SamplingParams(seed=5, max_tokens=6, ignore_eos=True, n=5, logprobs=True))
    texts = [alone, *alone.siblings]

    def mean(text: Any) -> float:
        return float(sum(one.logprob for one in text.logprobs)) / 6

    wanted = [one.text for one in sorted(texts, key=mean, reverse=True)]
    response = tiny.post(PATH, **asked, best_of=5, n=2).json()
    assert [choice["text"] for choice in response["choices"]] == wanted[:2]
    assert [choice["logprobs"] for choice in response["choices"]] == [None, None]
    assert response["usage"]["completion_tokens"] == 30
    [best] = whole(tiny, **asked, best_of=5, logprobs=0)
    assert best["text"] == wanted[0]
    assert len(best["logprobs"]["tokens"]) == 6


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 0}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "echo": True, "stream": True}, "max_tokens"),
        ({"max_tokens": 0, "echo": True, "best_of": 2}, "best_of"),
        ({"length_penalty": 0.5}, "length_penalty"),
        ({"early_stopping": False, "beam_width": 1}, "early_stopping"),
        ({"prompt": []}, "prompt"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(tiny: Served, more: dict[str, Any], param: str) -> None:
    response = tiny.post(PATH, **{"prompt": "말", **more})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_search_gives_what_the_model_itself_finds(tiny: Served) -> None:
    asked = {
        "prompt": "말",
        "beam_width": 3,
        "n": 2,
        "max_tokens": 5,
        "temperature": 0,
        "length_penalty": 0.5,
    }
    wanted = tiny.llm.generate(
        "말", SamplingParams(beam_width=3, n=2, max_tokens=5, temperature=0, length_penalty=0.5)
    )
    texts = [wanted.text, *(one.text for one in wanted.siblings)]
    assert [choice["text"] for choice in whole(tiny, **asked)] == texts
    assert [choice["text"] for choice in streamed(tiny, **asked)] == texts
