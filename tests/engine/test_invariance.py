"""What `batch_invariant` promises: the same logits, to the last bit, whoever runs beside a request.

And what holds without it: the same tokens until the model itself can hardly tell them apart.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from malmoi.core.errors import ConfigError
from malmoi.engine import Engine, PromptLookup, Request, SamplingParams
from malmoi.models import build_model, initialise
from malmoi.models.gemma2 import Gemma2Config
from malmoi.models.mixtral import MixtralConfig
from malmoi.nn.stack import Decoder
from malmoi.testing.models import VOCAB_SIZE, tiny_gpt2, tiny_llama, tiny_lstm, tiny_t5

# Widths that no vector of a processor divides, so that what stands at an end is computed as nothing else is.
ODD: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 36, "intermediate_size": 50, "num_layers": 2, "num_heads": 3,
    "num_kv_heads": 1, "head_dim": 12, "max_positions": 512,
}  # fmt: skip


def made(config: Any) -> Any:
    return initialise(build_model(config), seed=0, std=0.3).eval()


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny_llama(max_positions=512, hidden_size=36, intermediate_size=50),
    "gpt2": lambda: tiny_gpt2(max_positions=512),
    "lstm": lambda: tiny_lstm(max_positions=512),
    "gemma2": lambda: made(Gemma2Config(**ODD, window=6, layer_pattern="LG")),
    "mixtral": lambda: made(MixtralConfig(**ODD, num_experts=4, top_k=2)),
    "bf16": lambda: tiny_llama(max_positions=512).bfloat16(),
}
PROMPTS = [[(7 * i + k) % VOCAB_SIZE for i in range(5 + 23 * k)] for k in range(17)]  # of 5 to 373 tokens
PARAMS = [
    SamplingParams(seed=k, temperature=0.8, max_tokens=6 + k % 5, logprobs=VOCAB_SIZE) for k in range(17)
]


def engine(model: Decoder, **limits: Any) -> Engine:
    return Engine(model, batch_invariant=True, **limits)


def said(model: Decoder, indices: list[int], **limits: Any) -> list[list[Any]]:
    """All numbers of all tokens of the vocabulary, unrounded."""
    one = engine(model, **limits)
    answers = one.generate([PROMPTS[i] for i in indices], [PARAMS[i] for i in indices])
    assert one.scheduler.num_blocks_in_use == 0
    return [answer.choices for answer in answers]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_every_bit_is_the_same_alone_and_beside_sixteen_others(make: Callable[[], Any]) -> None:
    model = make()
    together = said(model, list(range(17)), max_requests=17)
    for index in (0, 6, 16):
        assert [together[index]] == said(model, [index])


def test_every_bit_is_the_same_whatever_a_step_has_room_for() -> None:
    model = MODELS["llama"]()
    wide = said(model, list(range(9, 17)), max_requests=8, tokens_per_step=2048)
    assert said(model, list(range(9, 17)), max_requests=8, tokens_per_step=135) == wide
    assert said(model, list(range(9, 17)), max_requests=3, tokens_per_step=200, block_size=5) == wide


def test_every_bit_is_the_same_for_whoever_gave_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["llama"]()
    bytes_of_block = 4 * sum(spec.bytes_per_token(4) for spec in model.cache_specs())
    cramped = engine(model, block_size=4, cache_bytes=45 * bytes_of_block)
    preempted = []
    preempt = cramped.scheduler._preempt
    monkeypatch.setattr(
        cramped.scheduler, "_preempt", lambda g: preempted.append(len(g.choices)) or preempt(g)
    )
    indices = [2, 3, 1, 0, 4]
    answers = cramped.generate([PROMPTS[i] for i in indices], [PARAMS[i] for i in indices])
    assert max(preempted) > 1  # with tokens that were computed one at a time
    for index, answer in zip(indices, answers, strict=True):
        assert [answer.choices] == said(model, [index])


def test_a_step_that_could_not_show_a_piece_is_refused_and_so_is_what_shows_more() -> None:
    with pytest.raises(ConfigError, match="no room for one beside 15 others. Give 143 or more"):
        engine(tiny_llama(), tokens_per_step=142)
    with pytest.raises(ConfigError, match="neither speculation nor an encoder"):
        engine(tiny_llama(), speculation=PromptLookup())
    with pytest.raises(ConfigError, match="neither speculation nor an encoder"):
        engine(tiny_t5())


def test_in_bf16_a_batch_says_what_one_alone_says_until_the_best_two_are_as_good_as_equal() -> None:
    """The judge of how near they are is the model itself, alone and in one forward over all."""
    model = tiny_llama(max_positions=512).bfloat16()
    params = SamplingParams(temperature=0, max_tokens=40)
    together = Engine(model, max_requests=17, tokens_per_step=200).generate(PROMPTS, params)
    num_equal = 0
    for prompt, answer in zip(PROMPTS, together, strict=True):
        [alone] = Engine(model).generate([prompt], params)
        pairs = zip(alone.tokens, answer.tokens, strict=True)
        place = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), None)
        if place is None:
            num_equal += 1
            continue
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *alone.tokens[:place]]])).logits[0, -1].float()
        first, second = logits.log_softmax(-1).topk(2).values.tolist()
        assert first - second < 0.05
    assert num_equal >= 8


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_a_request_beside_guesses_of_others_is_scored_as_it_is_read(make: Callable[[], Decoder]) -> None:
    model = make()
    params = SamplingParams(temperature=0.7, seed=3, max_tokens=60, logprobs=True)
    one = Engine(model, speculation=PromptLookup(ngram=1))
    written = one.add(Request(tokens=[4, 5] * 4, params=params))
    others = [one.add(Request(tokens=[6, 7] * 4, params=params)) for _ in range(3)]
    while any(generation.finish_reason is None for generation in (written, *others)):
        one.step()
    [read] = Engine(model).generate([written.ids], SamplingParams(max_tokens=1, prompt_logprobs=True))
    ours = [choice.chosen.logprob for choice in written.choices if choice.chosen]
    theirs = [choice.chosen.logprob for choice in read.prompt_choices if choice.chosen][-60:]
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
