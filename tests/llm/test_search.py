"""Beam search at the level of text: settings, forms, stop strings, streams and chats."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

import malmoi
from malmoi.core.errors import RequestError
from malmoi.engine import LogitsRule, SamplingParams
from malmoi.llm import LLM, ChatPrompt, Completion
from malmoi.llm.rules import Expected, Rules
from malmoi.testing.models import tiny_llm, tiny_t5
from malmoi.text.tokenizer import Tokenizer

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
    """Of an answer and the likeliest stop token behind it, as the model says it of the whole sequence at once."""
    prompt_ids, answer_ids = llm.prompt_ids(prompt), llm.tokenizer.encode(answer)
    with torch.inference_mode():
        logits = llm.model(torch.tensor([[*prompt_ids, *answer_ids]])).logits[0, len(prompt_ids) - 1 :]
    *rows, last = logits.log_softmax(-1)
    said = sum(row[token].item() for row, token in zip(rows, answer_ids, strict=True))
    return said + max(last[stop].item() for stop in llm.stop_ids)


def test_of_a_choice_all_come_in_the_order_of_their_probabilities() -> None:
    llm, choices = tiny_llm(), ("a", "ab", "xyz", "q")
    params = SamplingParams(choice=choices, beam_width=8, n=4, length_penalty=0)
    completion = llm.generate("hello", params)
    assert texts(completion) == sorted(choices, key=lambda choice: -logprob(llm, "hello", choice))


def test_texts_of_many_spellings_and_ends_are_each_found_once_by_as_many_beams() -> None:
    llm = malmoi.load(malmoi.default_model(), dtype=torch.float32)
    assert len(llm.stop_ids) > 1
    choices = ("서울", "부산", "대구", "인천광역시", "서울특별시", " 서울", "서")
    params = SamplingParams(choice=choices, beam_width=len(choices), n=len(choices), length_penalty=0)
    prompt = "대한민국의 수도는 "
    completion = llm.generate(prompt, params)
    assert texts(completion) == sorted(choices, key=lambda choice: -logprob(llm, prompt, choice))


SHIPPED = Tokenizer.load(malmoi.default_model())
STOPS = frozenset({0, 2})


def spellings(choices: Sequence[str], tokenizer: Tokenizer, *, beam_width: int = 2) -> list[tuple[int, ...]]:
    """All that the rule of a choice lets come."""
    params = SamplingParams(choice=tuple(choices), beam_width=beam_width)
    rules = Rules(tokenizer, vocab_size=tokenizer.vocab_size)
    first = rules.rule(params, Expected(), stop_ids=STOPS)
    assert first is not None
    open_ones: list[tuple[tuple[int, ...], LogitsRule]] = [((), first)]
    found = []
    while open_ones:
        ids, rule = open_ones.pop()
        mask = rule.allowed()
        assert mask is not None
        for token in mask.nonzero().flatten().tolist():
            if token in STOPS:
                found.append((*ids, token))
            else:
                further = rule.copy()
                further.advance(token)
                open_ones.append(((*ids, token), further))
    return sorted(found)


@given(st.sets(st.text(alphabet="서울부산특별시 ab'\n😀", min_size=1, max_size=8), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_search_may_spell_a_text_only_as_the_tokenizer_does(choices: set[str]) -> None:
    wanted = [(*SHIPPED.encode(choice), stop) for choice in choices for stop in STOPS]
    assert spellings(list(choices), SHIPPED) == sorted(wanted)


@pytest.mark.parametrize("choices", [("reset", "reserve"), ("페이지가", "페이지는"), ("slots", "slow")])
def test_texts_that_begin_alike_and_are_cut_otherwise_are_all_found(choices: tuple[str, ...]) -> None:
    """The longest beginning that they share is no sequence of tokens of both: what is forced may not decide."""
    wanted = [(*SHIPPED.encode(choice), stop) for choice in choices for stop in STOPS]
    assert spellings(choices, SHIPPED) == sorted(wanted)
    llm = malmoi.load(malmoi.default_model(), dtype=torch.float32)
    completion = llm.generate("다음: ", SamplingParams(choice=choices, beam_width=2, n=2))
    assert sorted(texts(completion)) == sorted(choices)


def test_a_beginning_that_is_one_of_the_texts_may_go_on_to_another() -> None:
    """What was told already may be cut in any way, and so may the rest of it: there one text may come twice."""
    llm = malmoi.load(malmoi.default_model(), dtype=torch.float32)
    params = SamplingParams(choice=("서", "서울"), beam_width=4, n=2)
    beginning = llm.tokenizer.encode("서")
    completion = llm.chat(
        ChatPrompt(messages=[{"role": "user", "content": "수도는?"}], beginning=beginning), params
    )
    assert "울" in texts(completion)
    assert {*texts(completion)} <= {"", "울"}


def test_a_tokenizer_that_takes_a_line_for_a_space_spells_texts_without_one() -> None:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"울서부산.", "서울", "▁서울", "부산", "▁부산", "▁."]
    model = models.Unigram([(piece, -float(len(pieces) - place)) for place, piece in enumerate(pieces)], 2)
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    made.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer = Tokenizer(made.to_str())
    for beam_width in (1, 2):
        found = spellings(["서울", "부산"], tokenizer, beam_width=beam_width)
        said = {b"".join(map(tokenizer.token_bytes, ids[:-1])).decode() for ids in found}
        assert said == {"서울", "부산"}
    assert len({ids[:-1] for ids in found}) == 2


def test_a_tokenizer_that_begins_every_text_with_a_space_spells_the_rest_of_one() -> None:
    tokens = [
        "<s>",
        "▁",
        "</s>",
        "<unk>",
        "서",
        "울",
        "서울",
        "▁서",
        "▁서울",
        *(f"<0x{byte:02X}>" for byte in range(256)),
    ]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    merges = [("서", "울"), ("▁", "서"), ("▁", "서울")]
    made = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<s>", "</s>", "<unk>"])
    tokenizer = Tokenizer(made.to_str())
    assert tokenizer.encode("서울") == [8]
    assert spellings(["서울", "서"], tokenizer) == [(4, 0), (4, 2), (6, 0), (6, 2)]
    assert spellings([" 서울"], tokenizer) == [(8, 0), (8, 2)]
    drawn = spellings(["서울", "서"], tokenizer, beam_width=1)
    assert {b"".join(map(tokenizer.token_bytes, ids[:-1])).decode() for ids in drawn} == {"서울", "서"}


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
