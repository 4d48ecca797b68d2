"""Text in, text out: chat format, stop strings, streaming, logprobs, on models that are tiny or follow a script."""

import gc
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models
from torch import Tensor

from malmoi.core.errors import ConfigError, RequestError, TemplateError
from malmoi.engine import Request, SamplingParams
from malmoi.llm import LLM, Completion, TextStream, load
from malmoi.models.base import initialise
from malmoi.nn.cache import PagedCache
from malmoi.nn.context import Context
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.testing.models import VOCAB_SIZE, ScriptedModel, tiny_llama, tiny_llm, tiny_t5
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate
from malmoi.text.stream import DecodeStream
from malmoi.text.tokenizer import Tokenizer

TOKENIZER = ByteTokenizer()
END = TOKENIZER.special_tokens["<|im_end|>"]
GREEDY = SamplingParams(temperature=0)
SEEDED = SamplingParams(seed=7, max_tokens=16)
HELLO = [{"role": "user", "content": "안녕?"}]


def says(text: str, *, end: Sequence[int] = (0,)) -> LLM:
    """An LLM that answers the prompt "?" with `text`."""
    return tiny_llm(ScriptedModel([*TOKENIZER.encode(text), *end], num_prompt=1))


def num_owned(llm: LLM) -> int:
    return llm.engine.scheduler.num_blocks_in_use


def test_an_answer_ends_at_the_stop_token_which_is_counted_but_not_shown() -> None:
    completion = says("말모이").generate("?", GREEDY)
    assert (completion.text, completion.finish_reason) == ("말모이", "stop")
    assert completion.tokens == [*TOKENIZER.encode("말모이"), 0]
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (1, 10)
    assert completion.usage.total_tokens == 11


def test_ignoring_the_stop_token_goes_on_without_showing_it() -> None:
    completion = says("가", end=[0, *TOKENIZER.encode("나")]).generate(
        "?", SamplingParams(temperature=0, ignore_eos=True, max_tokens=7)
    )
    assert (completion.text, completion.finish_reason) == ("가나", "length")


def test_max_tokens_ends_an_answer_with_length() -> None:
    completion = says("말모이").generate("?", SamplingParams(temperature=0, max_tokens=6))
    assert (completion.text, completion.finish_reason) == ("말모", "length")


@given(
    text=st.text(alphabet="가한글 a\n👍‍", min_size=1, max_size=12),
    span=st.tuples(st.integers(0, 11), st.integers(1, 4)),
)
@settings(max_examples=25)
def test_a_stop_string_is_found_across_tokens_and_syllables_and_nothing_of_it_is_shown(
    text: str, span: tuple[int, int]
) -> None:
    stop = text[span[0] % len(text) :][: span[1]]
    llm, params = says(text), SamplingParams(temperature=0, stop=stop)
    stream = llm.stream("?", params)
    pieces = list(stream)
    assert "".join(pieces) == text[: text.index(stop)]
    assert stream.completion == llm.generate("?", params)
    assert stream.completion.finish_reason == "stop"
    assert num_owned(llm) == 0


def test_a_stop_string_ends_the_generation_not_only_the_text() -> None:
    completion = says("하나\n\n둘 셋 넷").generate("?", SamplingParams(temperature=0, stop="\n\n"))
    assert completion.tokens == TOKENIZER.encode("하나\n\n")


def test_the_beginning_of_a_stop_string_that_does_not_come_is_shown() -> None:
    assert says("값은 <b").generate("?", SamplingParams(temperature=0, stop="<br>")).text == "값은 <b"


def test_the_pieces_of_a_stream_are_the_answer_and_never_half_a_syllable() -> None:
    llm = says("한글 말모이 👨‍👩‍👧!")
    stream = llm.stream("?", GREEDY)
    pieces = list(stream)
    assert pieces == ["한", "글", " ", "말", "모", "이", " ", "👨‍👩‍👧!"]
    assert stream.completion == llm.generate("?", GREEDY)
    assert stream.completion.timings.first_token > 0
    assert stream.completion.timings.tokens_per_second > 0


def test_text_is_what_the_decoder_makes_of_the_tokens() -> None:
    llm = tiny_llm()
    completion = llm.generate("안녕", SEEDED)
    stream = DecodeStream(llm.tokenizer)
    assert completion.text == "".join(map(stream.push, completion.tokens)) + stream.finish()


def test_several_prompts_at_once_are_what_they_are_alone() -> None:
    llm = tiny_llm()
    prompts = ["안녕", "말", "아주 긴 문장을 하나 써 보자."]
    assert llm.generate(prompts, SEEDED) == [llm.generate(prompt, SEEDED) for prompt in prompts]


def test_two_streams_in_turns_are_what_they_are_alone() -> None:
    llm = tiny_llm()
    streams = [llm.stream("안녕", SEEDED), llm.stream(HELLO, SEEDED)]
    texts = ["", ""]
    next(streams[1])
    while any(pieces := [next(stream, "") for stream in streams]):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    assert texts[0] == llm.generate("안녕", SEEDED).text
    assert texts[1]
    assert llm.chat(HELLO, SEEDED).text.endswith(texts[1])


def test_closing_or_dropping_a_stream_ends_its_request() -> None:
    llm = tiny_llm()
    for give_up in (TextStream.close, lambda stream: None):
        stream = llm.stream("안녕", SamplingParams(seed=1, ignore_eos=True))
        next(stream)
        assert num_owned(llm) > 0
        give_up(stream)
        del stream
        gc.collect()
        assert num_owned(llm) == 0
        assert not llm.engine.scheduler.running


def test_a_stream_that_is_never_read_takes_nothing() -> None:
    llm = tiny_llm()
    llm.stream("안녕", GREEDY)
    assert not llm.engine.scheduler.waiting


def test_a_stream_has_no_completion_before_its_end() -> None:
    stream = says("가").stream("?", GREEDY)
    with pytest.raises(RequestError, match="not come to its end"):
        stream.completion  # noqa: B018
    assert list(stream) == ["가"]
    assert list(stream) == []
    assert stream.completion.text == "가"


def test_a_chat_is_rendered_with_the_template_and_ends_at_the_end_of_turn() -> None:
    prompt = ChatTemplate.default().render(HELLO, TOKENIZER, add_generation_prompt=True)
    script = [*TOKENIZER.encode("네."), END, *TOKENIZER.encode("더")]
    llm = tiny_llm(ScriptedModel(script, num_prompt=len(prompt.ids)))
    assert llm.prompt_ids(HELLO) == prompt.ids
    completion = llm.chat(HELLO, GREEDY)  # <|im_end|> is not among the stop ids that it was given
    assert (completion.text, completion.finish_reason) == ("네.", "stop")
    assert "".join(llm.stream(HELLO, GREEDY)) == "네."


def test_a_model_without_a_chat_format_generates_but_does_not_chat() -> None:
    llm = LLM(tiny_llama(), TOKENIZER)
    assert llm.generate("안", GREEDY)
    with pytest.raises(TemplateError, match="without a chat template"):
        llm.chat(HELLO)


def test_logprobs_name_each_token_its_bytes_and_the_alternatives() -> None:
    llm = tiny_llm()
    completion = llm.generate("안녕", SamplingParams(seed=3, temperature=2, max_tokens=12, logprobs=4))
    assert completion.logprobs is not None
    assert [entry.token for entry in completion.logprobs] == completion.tokens
    for entry in completion.logprobs:
        assert entry.bytes == TOKENIZER.token_bytes(entry.token)
        assert len(entry.top) == 4
        assert entry.logprob <= entry.top[0].logprob <= 0
        assert 0 < entry.probability <= 1
    assert llm.generate("안녕", SEEDED).logprobs is None


def test_the_bytes_of_the_logprobs_are_those_of_the_text() -> None:
    completion = says("한글 👍").generate("?", SamplingParams(temperature=0, logprobs=True, max_tokens=11))
    assert completion.logprobs is not None
    assert b"".join(entry.bytes for entry in completion.logprobs).decode() == completion.text == "한글 👍"


def test_ids_that_the_tokenizer_does_not_know_are_no_text() -> None:
    script = [*TOKENIZER.encode("가"), VOCAB_SIZE, *TOKENIZER.encode("나"), 0]
    llm = tiny_llm(ScriptedModel(script, num_prompt=1, vocab_size=VOCAB_SIZE + 5))
    completion = llm.generate("?", SamplingParams(temperature=0, logprobs=VOCAB_SIZE + 5))
    assert completion.text == "가나"
    assert completion.logprobs is not None
    assert completion.logprobs[3].bytes == b""


def sentencepiece() -> Tokenizer:
    """As Llama 2's: ▁ is a space, except at the beginning of a text."""
    vocabulary = {"<s>": 0, "</s>": 1, "▁": 2, "▁한": 3, "글": 4, "▁말": 5}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return Tokenizer(made.to_str())


def test_a_text_that_goes_on_keeps_the_space_before_its_next_word_and_an_answer_has_none() -> None:
    params = SamplingParams(temperature=0, logprobs=True)
    model = ScriptedModel([5, 4, 1], num_prompt=1, vocab_size=6)
    llm = LLM(model, sentencepiece(), template=ChatTemplate("{{ messages[0].content }}"), stop_ids=[1])
    for completion, expected in (
        (llm.generate("▁", params), " 말글"),
        (llm.chat([{"role": "user", "content": "▁"}], params), "말글"),
    ):
        assert completion.text == expected
        assert completion.logprobs is not None
        assert b"".join(entry.bytes for entry in completion.logprobs[:2]).decode() == expected


def test_the_bytes_of_tokens_are_the_text_where_a_token_without_text_comes_first() -> None:
    made = sentencepiece()
    made.backend.add_special_tokens(["<s>", "</s>"])
    made = Tokenizer(made.backend.to_str())
    assert made.special_tokens == {"<s>": 0, "</s>": 1}
    model = ScriptedModel([0, 0, 5, 4, 1], num_prompt=1, vocab_size=6)
    llm = LLM(model, made, template=ChatTemplate("{{ messages[0].content }}"), stop_ids=[1])
    completion = llm.chat([{"role": "user", "content": "▁"}], SamplingParams(temperature=0, logprobs=True))
    assert completion.text == "말글"
    assert completion.logprobs is not None
    assert b"".join(entry.bytes for entry in completion.logprobs[2:4]).decode() == completion.text


def test_the_stop_string_that_was_found_is_told() -> None:
    llm = says("하나 둘 셋")
    assert llm.generate("?", SamplingParams(temperature=0, stop=("셋", "둘"))).stop == "둘"
    assert llm.generate("?", GREEDY).stop is None


def test_what_each_step_adds_makes_up_the_completion() -> None:
    llm = tiny_llm()
    deltas = llm.deltas(HELLO, replace(SEEDED, logprobs=2))
    steps = list(deltas)
    assert deltas.completion == llm.chat(HELLO, replace(SEEDED, logprobs=2))
    assert "".join(step.text for step in steps) == deltas.completion.text
    assert [one for step in steps for one in step.logprobs] == deltas.completion.logprobs
    assert [step.finish_reason for step in steps if step.finish_reason] == [deltas.completion.finish_reason]


def test_default_params_are_used_when_none_are_given() -> None:
    llm = says("말모이")
    llm.default_params = SamplingParams(temperature=0, stop="모")
    assert llm.generate("?").text == "말"
    assert "".join(llm.stream("?")) == "말"


def test_changed_weights_change_the_answers() -> None:
    llm = tiny_llm(tiny_llama(seed=0))
    before = llm.generate("안녕", SEEDED)
    initialise(llm.model, seed=1, std=0.3)
    assert llm.generate("안녕", SEEDED) != before
    assert llm.generate("안녕", SEEDED) == tiny_llm(tiny_llama(seed=1)).generate("안녕", SEEDED)


@pytest.mark.parametrize("prompt", ["가" * 50, [{"role": "user", "content": "가" * 50}]])
def test_a_prompt_longer_than_the_context_is_refused_at_once_with_the_sizes(
    prompt: str | list[dict[str, str]],
) -> None:
    llm = tiny_llm()
    with pytest.raises(RequestError, match=r"tokens, but the model's context has room for 128"):
        llm.stream(prompt)
    with pytest.raises(RequestError, match=r"tokens, but the model's context has room for 128"):
        llm.generate(["가", "가" * 50])
    assert not llm.engine.scheduler.waiting


def test_an_empty_prompt_is_refused_where_nothing_opens_a_text() -> None:
    with pytest.raises(RequestError, match="the prompt is empty"):
        tiny_llm().generate("")


def test_answers_do_not_depend_on_gradients_being_on() -> None:
    with torch.no_grad():
        wanted = tiny_llm().generate("안녕", SEEDED)
    llm = tiny_llm()
    with torch.enable_grad():
        assert llm.generate("안녕", SEEDED) == wanted
    pools = [pool for pool in llm.engine.runner.pools if isinstance(pool, PagedCache)]
    assert len(pools) == 2
    assert not any(pool.k.requires_grad or pool.v.requires_grad for pool in pools)


def test_an_answer_that_cannot_go_on_says_so_behind_its_text_and_disturbs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = says("하나 둘 셋")
    sound, failing = llm.stream("?", GREEDY), llm.stream("!", GREEDY)
    assert [next(sound), next(failing)] == ["하", "하"]
    embed: Callable[..., tuple[Tensor, Context]] = llm.model.embed

    def spoiled(tokens: Tensor, context: Context) -> tuple[Tensor, Context]:
        x, context = embed(tokens, context)
        is_second = torch.arange(x.shape[1])[:, None] == 1  # of those that run
        return torch.where(is_second, torch.nan, x), context

    monkeypatch.setattr(llm.model, "embed", spoiled)
    assert "".join(sound) == "나 둘 셋"
    with pytest.raises(RequestError, match="not finite numbers"):
        list(failing)
    assert num_owned(llm) == 0
    with pytest.raises(RequestError, match="not come to its end"):
        failing.completion  # noqa: B018


def test_a_stop_string_before_the_numbers_went_wrong_ends_an_answer_as_ever() -> None:
    llm = says("하나 둘 셋")
    other, stopped = llm.stream("?", GREEDY), llm.stream("!", SamplingParams(temperature=0, stop="나"))
    assert [next(other), next(stopped)] == ["하", "하"]
    generation = llm.engine.scheduler.running[1]
    while TOKENIZER.decode(generation.tokens) != "하나":  # computed by the steps of the other, not read yet
        llm.engine.step()
    torch.nn.init.constant_(llm.model.head.weight, torch.nan)
    llm.engine.step()
    assert generation.finish_reason == "error"
    assert list(stopped) == []
    assert (stopped.completion.text, stopped.completion.finish_reason) == ("하", "stop")


def everybody(completion: Completion) -> list[Completion]:
    return [completion, *completion.siblings]


@pytest.mark.parametrize("prompt", ["안녕", HELLO], ids=["text", "chat"])
def test_n_answers_are_those_of_n_seeds(prompt: str | list[dict[str, str]]) -> None:
    llm, params = tiny_llm(), SamplingParams(n=4, seed=7, max_tokens=16, temperature=0.5, logprobs=2)
    ask = llm.generate if isinstance(prompt, str) else llm.chat
    answers = everybody(ask(prompt, params))
    alone = [ask(prompt, replace(params, n=1, seed=7 + index)) for index in range(4)]
    assert [one.text for one in answers] == [one.text for one in alone]
    assert [one.usage for one in answers] == [one.usage for one in alone]
    assert len({one.text for one in alone}) > 1
    for one, other in zip(answers, alone, strict=True):
        assert one.logprobs is not None
        assert other.logprobs is not None
        assert [p.logprob for p in one.logprobs] == pytest.approx(
            [p.logprob for p in other.logprobs], abs=1e-5
        )
    assert num_owned(llm) == 0


def test_a_stop_string_in_one_of_n_answers_ends_that_one_alone() -> None:
    llm, params = tiny_llm(), SamplingParams(n=3, seed=7, max_tokens=16)
    whole = everybody(llm.generate("안녕", params))
    stop = next(c for c in whole[0].text if all(c not in one.text for one in whole[1:]))
    stopped = everybody(llm.generate("안녕", replace(params, stop=stop)))
    assert stopped[0].text == whole[0].text.partition(stop)[0]
    assert [one.text for one in stopped[1:]] == [one.text for one in whole[1:]]
    assert num_owned(llm) == 0


def test_several_prompts_may_ask_for_several_answers_each() -> None:
    llm, params = tiny_llm(), SamplingParams(n=3, seed=7, max_tokens=8)
    assert llm.generate(["안녕", "말"], params) == [llm.generate(one, params) for one in ("안녕", "말")]
    assert num_owned(llm) == 0


def test_several_answers_are_not_streamed() -> None:
    with pytest.raises(RequestError, match="n=2, and a stream gives one answer. Leave n at 1"):
        tiny_llm().stream("안녕", SamplingParams(n=2))


def test_the_numbers_of_a_prompt_are_those_of_the_same_text_as_an_answer() -> None:
    llm, text = tiny_llm(), "안녕"
    ids = llm.prompt_ids(text)
    scored = llm.generate(text, SamplingParams(max_tokens=1, prompt_logprobs=2, n=2))
    assert scored.prompt_logprobs is not None
    assert [one.token for one in scored.prompt_logprobs] == ids[1:]
    assert b"".join(one.bytes for one in scored.prompt_logprobs) == text.encode()[1:]
    assert {len(one.top) for one in scored.prompt_logprobs} == {2}
    with torch.no_grad():
        expected = llm.model(torch.tensor([ids])).logits[0].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
    assert [one.logprob for one in scored.prompt_logprobs] == pytest.approx(expected.tolist(), abs=1e-5)
    assert scored.siblings[0].prompt_logprobs == scored.prompt_logprobs
    assert llm.generate(text, SEEDED).prompt_logprobs is None


def test_usage_says_how_much_of_a_prompt_was_cached_and_the_answer_is_the_same() -> None:
    llm, prompt = tiny_llm(), "가나다라마바사아자차카타파하"
    first, second = llm.generate(prompt, SEEDED), llm.generate(prompt, SEEDED)
    assert (first.usage.cached_tokens, second.usage.cached_tokens) == (0, 32)  # two whole blocks of 42
    assert first == second


def test_engine_options_reach_the_engine() -> None:
    options = {"max_requests": 3, "prefix_caching": False, "cache_dtype": "int8"}
    llm = LLM(tiny_llama(), TOKENIZER, engine_options=options)
    assert llm.engine.scheduler.max_requests == 3
    assert not llm.engine.scheduler.holdings.has_prefix_cache
    assert all(isinstance(pool, Int8PagedCache) for pool in llm.engine.runner.pools)
    assert load(engine_options=options).engine.scheduler.max_requests == 3


def test_an_option_that_no_engine_has_is_refused_with_the_nearest_one() -> None:
    message = (
        "engine_options has 'max_request', and an engine has no such option. Did you mean 'max_requests'?"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        LLM(tiny_llama(), TOKENIZER, engine_options={"max_request": 3})


def test_a_request_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = tiny_llm()
    checked: list[Request] = []
    check = llm.engine.check
    monkeypatch.setattr(llm.engine, "check", lambda request: checked.append(request) or check(request))
    llm.generate(["안", "녕"], SEEDED)
    list(llm.stream("안", SEEDED))
    assert len(checked) == 3


def test_ids_are_a_prompt_as_their_text_is() -> None:
    llm = tiny_llm()
    asked, same = llm.builder.build(llm.prompt_ids("말모이"), SEEDED), llm.builder.build("말모이", SEEDED)
    assert asked.request.tokens == same.request.tokens
    assert (asked.request.stop_ids, asked.at_start) == (same.request.stop_ids, same.at_start)
    assert "".join(llm.stream(llm.prompt_ids("말모이"), SEEDED)) == llm.generate("말모이", SEEDED).text


def test_ids_are_what_an_encoder_reads_as_they_are() -> None:
    asked = tiny_llm(tiny_t5()).builder.build([5, 6, 7], SEEDED)
    assert (asked.request.source, asked.at_start) == ((5, 6, 7), True)


def test_no_image_stands_before_ids() -> None:
    with pytest.raises(RequestError, match="do not go before ids|text alone"):
        tiny_llm().builder.build([5, 6], SEEDED, {"images": [b"png"]})
