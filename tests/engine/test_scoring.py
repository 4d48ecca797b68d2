"""How likely a prompt is: what the model says of it in one forward, however it is cut, cached and interrupted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine import Engine, Generation, Request, SamplingParams, scoring
from malmoi.nn.stack import Decoder
from malmoi.testing.models import tiny_gpt2, tiny_llama, tiny_lstm

PROMPT = list(range(60, 83))
PARAMS = SamplingParams(max_tokens=2, temperature=0, logprobs=True, prompt_logprobs=259)


def logprobs_of(generation: Generation) -> Tensor:
    return torch.tensor([[c.logprob for c in sorted(choice.top)] for choice in generation.prompt_choices])


def assert_scored(generation: Generation, model: Decoder) -> None:
    prompt = list(generation.request.tokens)
    with torch.inference_mode():
        wanted = model(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1)
    torch.testing.assert_close(logprobs_of(generation), wanted, rtol=0, atol=1e-5)
    for token, choice, row in zip(prompt[1:], generation.prompt_choices, wanted, strict=True):
        assert choice.token == token
        assert choice.chosen is not None
        assert choice.chosen.logprob == pytest.approx(row[token].item(), abs=1e-5)
        assert choice.chosen.probability == pytest.approx(row[token].exp().item(), abs=1e-5)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_lstm])
@pytest.mark.parametrize("tokens_per_step", [5, 512])
def test_a_prompt_is_scored_as_in_one_forward(
    make: Callable[[], Decoder], tokens_per_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 4)
    model = make()
    engine = Engine(model, block_size=4, tokens_per_step=tokens_per_step, max_requests=2)
    for _ in range(2):  # what is cached is computed again
        for generation in engine.generate([PROMPT, [5, 6, 7]], PARAMS):
            assert generation.num_cached == 0
            assert_scored(generation, model)


def test_an_answer_is_scored_in_a_prefill_as_it_was_when_it_was_written() -> None:
    engine = Engine(tiny_llama())
    params = SamplingParams(seed=3, max_tokens=20, logprobs=True)
    [written] = engine.generate([PROMPT], params)
    [read] = engine.generate([written.ids], SamplingParams(max_tokens=1, prompt_logprobs=True))
    ours = [choice.chosen.logprob for choice in written.choices if choice.chosen]
    theirs = [choice.chosen.logprob for choice in read.prompt_choices if choice.chosen][-20:]
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert all(choice.top == () for choice in read.prompt_choices)


def test_whoever_gave_way_is_scored_once() -> None:
    model = tiny_llama()
    engine = Engine(model, tokens_per_step=6, max_requests=2, block_size=4)
    generation = engine.add(Request(tokens=PROMPT, params=PARAMS))
    step = 0
    while generation.finish_reason is None:
        engine.step()
        step += 1
        if step in (2, 7):  # in the prompt, and behind it
            engine.scheduler.preempt_all()
    assert_scored(generation, model)


def test_siblings_have_the_scores_of_their_prompt() -> None:
    [first] = Engine(tiny_llama()).generate([PROMPT], SamplingParams(n=2, max_tokens=1, prompt_logprobs=3))
    assert len(first.prompt_choices) == 22
    assert first.siblings[0].prompt_choices == first.prompt_choices
    assert [len(choice.top) for choice in first.prompt_choices] == [3] * 22


def test_nobody_else_is_scored() -> None:
    [generation] = Engine(tiny_llama()).generate([PROMPT], SamplingParams(max_tokens=1))
    assert generation.prompt_choices == []
    with pytest.raises(RequestError, match=r"prompt_logprobs=-1 is out of range"):
        SamplingParams(prompt_logprobs=-1)
