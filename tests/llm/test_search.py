"""Beam search at the level of text: settings, forms, stop strings, streams and chats."""

from contextlib import closing
from typing import Any

import pytest
import torch

from malmoi.core.errors import RequestError
from malmoi.engine import SamplingParams
from malmoi.llm import LLM, Completion
from malmoi.testing.models import tiny_llm, tiny_t5

PARAMS = SamplingParams(beam_width=4, n=3, max_tokens=10)


def texts(completion: Completion) -> list[str]:
    return [one.text for one in (completion, *completion.siblings)]


@pytest.mark.parametrize("model", [None, tiny_t5], ids=["llama", "t5"])
def test_a_text_has_the_likeliest_answers_best_first(model: Any) -> None:
    llm = tiny_llm(model and model())
    completion = llm.generate("한글", PARAMS)
    [found] = llm.engine.generate(
        [list(llm.answer_opening) or llm.prompt_ids("한글")],
        PARAMS,
        stop_ids=llm.stop_ids,
        sources=[llm.prompt_ids("한글")] if llm.answer_opening else None,
    )
    wanted = [one.tokens for one in (found, *found.siblings)]
    assert [one.tokens for one in (completion, *completion.siblings)] == wanted
    assert len(texts(completion)) == 3


def logprob(llm: LLM, prompt: str, answer: str) -> float:
    """Of an answer and the stop token behind it, as the model says it of the whole sequence at once."""
    prompt_ids, [stop] = llm.prompt_ids(prompt), llm.stop_ids
    ids = [*prompt_ids, *llm.tokenizer.encode(answer), stop]
    rows = llm.model(torch.tensor([ids])).logits[0, len(prompt_ids) - 1 : -1].log_softmax(-1)
    return rows.gather(-1, torch.tensor(ids[len(prompt_ids) :])[:, None]).sum().item()


def test_of_a_choice_all_come_in_the_order_of_their_probabilities() -> None:
    llm, choices = tiny_llm(), ("a", "ab", "xyz", "q")
    params = SamplingParams(choice=choices, beam_width=8, n=4, length_penalty=0)
    completion = llm.generate("hello", params)
    assert texts(completion) == sorted(choices, key=lambda choice: -logprob(llm, "hello", choice))


def test_a_form_with_fewer_texts_than_answers_were_asked_for_is_an_error_with_the_number() -> None:
    with pytest.raises(RequestError, match="has found 2 answers, and n=3 were asked for"):
        tiny_llm().generate("hello", SamplingParams(choice=("yes", "no"), beam_width=4, n=3))


def test_a_stop_string_cuts_what_was_found() -> None:
    whole = tiny_llm().generate("hello", SamplingParams(beam_width=3, max_tokens=12, regex="[a-c]{12}"))
    stop = whole.text[5:7]
    cut = tiny_llm().generate(
        "hello", SamplingParams(beam_width=3, max_tokens=12, regex="[a-c]{12}", stop=stop)
    )
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_a_stream_brings_at_its_end_what_generate_finds() -> None:
    llm, params = tiny_llm(), SamplingParams(beam_width=3, max_tokens=10, regex="[a-z ]{10}")
    with closing(llm.stream("hello", params)) as stream:
        pieces = list(stream)
    assert "".join(pieces) == stream.completion.text == llm.generate("hello", params).text
    assert llm.engine.scheduler.num_blocks_in_use == 0


def test_a_chat_is_searched_too_and_its_numbers_are_those_of_the_model() -> None:
    message = [{"role": "user", "content": "안녕?"}]
    completion = tiny_llm().chat(message, SamplingParams(beam_width=3, n=2, max_tokens=6, logprobs=1))
    sums = []
    for one in (completion, *completion.siblings):
        assert one.logprobs is not None
        assert len(one.logprobs) == len(one.timings.token_times) == one.usage.completion_tokens
        sums.append(sum(token.logprob for token in one.logprobs) / len(one.logprobs))
    assert sums == sorted(sums, reverse=True)
