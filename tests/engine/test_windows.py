"""Layers that see a window: they keep no more than that, and what they say is what they say with everything kept."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from malmoi.engine import Engine, Request, SamplingParams
from malmoi.engine.blocks import Table
from malmoi.engine.groups import Group, find_prefix, num_blocks_held
from malmoi.models import build_model, initialise
from malmoi.models.exaone4 import Exaone4Config
from malmoi.models.gemma2 import Gemma2Config
from malmoi.models.mistral import MistralConfig
from malmoi.nn.rope import RopeConfig
from malmoi.nn.stack import Decoder

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 32, "num_layers": 3, "num_heads": 2, "num_kv_heads": 1,
    "head_dim": 16, "max_positions": 4096,
}  # fmt: skip
PROMPTS = [[5, 6, 7, 8, 9], [40], list(range(60, 97)), [3] * 30]
GREEDY = SamplingParams(temperature=0, max_tokens=24)


def made(config: Any) -> Decoder:
    model = build_model(config)
    assert isinstance(model, Decoder)
    return initialise(model, seed=0, std=0.4).eval()


def mistral() -> Decoder:
    return made(MistralConfig(**SHAPE, window=6))


def gemma2() -> Decoder:
    return made(Gemma2Config(**SHAPE, window=6, layer_pattern="LGL"))


def exaone4() -> Decoder:
    return made(Exaone4Config(**SHAPE, window=6, layer_pattern="LLG", rope=RopeConfig(theta=10_000.0)))


FAMILIES = [mistral, gemma2, exaone4]


def without_cache(model: Decoder, prompt: list[int], num_tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(num_tokens):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("make", FAMILIES)
def test_what_left_the_window_is_not_missed(make: Callable[[], Decoder]) -> None:
    model = make()
    engine = Engine(model, block_size=4, tokens_per_step=9, max_requests=4)
    for _ in range(2):  # computed, then found in the cache
        for prompt, generation in zip(PROMPTS, engine.generate(PROMPTS, GREEDY), strict=True):
            assert generation.tokens == without_cache(model, prompt, 24)
        assert engine.scheduler.num_blocks_in_use == 0


def test_memory_is_the_same_at_any_length() -> None:
    engine = Engine(mistral(), block_size=4, tokens_per_step=9, max_requests=4)
    generation = engine.add(Request(tokens=[5], params=SamplingParams(temperature=0)))
    in_use = []
    while generation.finish_reason is None and len(generation.ids) < 200:
        engine.step()
        in_use.append(engine.scheduler.num_blocks_in_use)
    assert (
        max(in_use[100:])
        == max(in_use[20:100])
        <= num_blocks_held(200, block_size=4, window=6, tokens_per_step=1)
    )
    assert engine.scheduler.holdings.groups[0].num_blocks == 4 * num_blocks_held(
        4096, block_size=4, window=6, tokens_per_step=9
    )


def test_only_the_layers_with_a_window_forget() -> None:
    engine = Engine(gemma2(), block_size=4, tokens_per_step=9, max_requests=4)
    generation = engine.add(Request(tokens=[5], params=SamplingParams(temperature=0)))
    while len(generation.ids) < 100:
        engine.step()
    local, everything = sorted(
        zip(engine.scheduler.holdings.groups, generation.tables, strict=True),
        key=lambda pair: pair[0].window or 99,
    )
    assert (local[0].window, everything[0].window) == (6, None)
    assert len(local[1].blocks) <= 3
    assert len(everything[1].blocks) == 25


@pytest.mark.parametrize("make", FAMILIES)
def test_a_long_beginning_is_found_by_its_last_window(make: Callable[[], Decoder]) -> None:
    model = make()
    engine = Engine(model, block_size=4, tokens_per_step=9, max_requests=4)
    prompt = list(range(10, 95))
    for num_cached in (0, 84):
        [generation] = engine.generate([prompt], GREEDY)
        assert generation.num_cached == num_cached
        assert generation.tokens == without_cache(model, prompt, 24)


@given(
    is_known=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=9),
    window=st.integers(1, 12),
)
def test_a_beginning_is_found_where_every_group_has_what_is_seen_from_there(
    is_known: list[tuple[bool, bool]], window: int
) -> None:
    sizes: Any = {"num_blocks": 10, "block_size": 2, "tokens_per_step": 4}
    groups = [Group(**sizes), Group(**sizes, window=window)]
    keys = [bytes([number]) for number in range(len(is_known))]
    for group, known in zip(groups, zip(*is_known, strict=True), strict=False):
        for key, is_here in zip(keys, known, strict=True):
            if is_here:
                group.pool.remember(group.pool.allocate(1)[0], key)

    def can_begin(length: int) -> bool:
        """Whether all that the query at position `2 * length` sees is there."""
        seen = range(max(0, 2 * length - window + 1), 2 * length)
        return all(is_known[i][0] for i in range(length)) and all(is_known[p // 2][1] for p in seen)

    longest, tables = find_prefix(groups, keys)
    assert longest == max(length for length in range(len(keys) + 1) if can_begin(length))
    for group, table in zip(groups, tables, strict=True):
        assert table.end == longest
        assert table.blocks == [group.pool.find(key) for key in keys[table.first : longest]]
    assert tables[0].first == 0
    assert tables[1] == Table(tables[1].first, tables[1].blocks)
