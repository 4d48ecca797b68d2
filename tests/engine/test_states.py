"""Recurrent models in the engine: a state a running request, alone or beside attention, and never somebody else's."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import ConfigError
from malmoi.engine import Engine, Request, SamplingParams
from malmoi.models import initialise
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention
from malmoi.nn.block import Block, PreNorm
from malmoi.nn.cells import CellKind
from malmoi.nn.embedding import Embedding
from malmoi.nn.linear import Linear
from malmoi.nn.norm import RMSNorm
from malmoi.nn.recurrent import Recurrent
from malmoi.nn.stack import Decoder
from malmoi.testing.models import tiny_lstm

PROMPTS = [[5, 6, 7, 8, 9], [40], list(range(60, 83)), [3, 3, 3]]
GREEDY = SamplingParams(temperature=0, max_tokens=12)


def hybrid(kind: CellKind) -> Decoder:
    """A recurrent layer below one of attention: both kinds of caches in one model."""
    attention = Attention(
        hidden_size=16, num_heads=2, num_kv_heads=2, head_dim=8, rule=AttentionRule(), rope=None
    )
    layers = (Recurrent(16, kind=kind), attention)
    model = Decoder(
        embedding=Embedding(97, 16),
        blocks=[Block(mixer=PreNorm(RMSNorm(16, eps=1e-5), layer)) for layer in layers],
        norm=RMSNorm(16, eps=1e-5),
        head=Linear(16, 97, bias=False),
        vocab_size=97,
        max_positions=64,
    )
    return initialise(model, seed=0, std=0.5).eval()


def without_cache(model: Decoder, prompt: Sequence[int], num_tokens: int = 12) -> list[int]:
    ids = list(prompt)
    for _ in range(num_tokens):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
def test_layers_that_keep_states_and_layers_that_keep_keys_share_a_step(kind: CellKind) -> None:
    model = hybrid(kind)
    engine = Engine(model, tokens_per_step=8, max_requests=3, block_size=4)
    for prompt, generation in zip(PROMPTS, engine.generate(PROMPTS, GREEDY), strict=True):
        assert generation.tokens == without_cache(model, prompt)


def test_whoever_lost_its_blocks_begins_with_an_empty_state(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hybrid("gru")
    state_bytes, block_bytes = 3 * 16 * 4, 4 * 2 * 16 * 4
    cramped = Engine(model, block_size=4, max_requests=3, cache_bytes=state_bytes + 10 * block_bytes)
    assert cramped.scheduler.holdings.groups[0].num_blocks == 10
    preempted = []
    preempt = cramped.scheduler._preempt
    monkeypatch.setattr(cramped.scheduler, "_preempt", lambda g: preempted.append(g) or preempt(g))
    together = cramped.generate(PROMPTS, GREEDY)
    assert preempted
    for prompt, generation in zip(PROMPTS, together, strict=True):
        assert generation.tokens == without_cache(model, prompt)
    assert cramped.scheduler.holdings.state_slots.num_free == 3


@given(
    prompts=st.lists(st.lists(st.integers(0, 258), min_size=1, max_size=9), min_size=1, max_size=5),
    limits=st.tuples(st.integers(3, 20), st.integers(1, 3)),
    preempted_at=st.sets(st.integers(0, 15), max_size=3),
    gives_up=st.integers(0, 8),
)
@settings(max_examples=8)
def test_a_slot_goes_from_hand_to_hand_without_a_trace(
    prompts: list[list[int]], limits: tuple[int, int], preempted_at: set[int], gives_up: int
) -> None:
    """More requests than slots, some of them thrown out in between, one that leaves."""
    tokens_per_step, max_requests = limits
    model, params = tiny_lstm(), SamplingParams(temperature=0, max_tokens=6)
    engine = Engine(model, tokens_per_step=tokens_per_step, max_requests=max_requests)
    generations = [engine.add(Request(tokens=prompt, params=params)) for prompt in prompts]
    step = 0
    while any(generation.finish_reason is None for generation in generations):
        if step in preempted_at:
            engine.refresh()
        if step == 4 and gives_up < len(generations):
            engine.abort(generations[gives_up])
        engine.step()
        step += 1
    for prompt, generation in zip(prompts, generations, strict=True):
        wanted = without_cache(model, prompt, 6)
        assert generation.tokens == wanted[: len(generation.tokens)]
        assert generation.finish_reason == "abort" or len(generation.tokens) == 6


def test_a_state_takes_no_more_memory_as_its_sequence_grows() -> None:
    engine = Engine(
        tiny_lstm(), max_requests=2, cache_bytes=2 * 2 * 2 * 32 * 4
    )  # requests, layers, vectors of fp32
    [generation] = engine.generate([[5]], SamplingParams(temperature=0))
    assert len(generation.ids) == 128


def test_states_that_do_not_fit_are_refused_with_what_they_take() -> None:
    with pytest.raises(
        ConfigError, match="cache_bytes=1000 is less than 1024: .* the recurrent states of 2 requests"
    ):
        Engine(tiny_lstm(), max_requests=2, cache_bytes=1000)
