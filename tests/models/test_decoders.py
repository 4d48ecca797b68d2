"""What every decoder obeys: causal, and the same however its tokens are cut, packed, cached and paged."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.models import build_model, initialise
from malmoi.nn.block import PreNorm, Sandwich
from malmoi.nn.cache import KeyValueSpec, PagedCache, PagedStep, RollingCache
from malmoi.nn.context import Context
from malmoi.nn.splice import Splice
from malmoi.nn.stack import Decoder
from malmoi.nn.state import StatePool, StateStep

LENGTHS = (7, 1, 12)  # of the sequences that share a step
VOCAB_SIZE = 61
NUM_WORDS = 59  # the ids that no tiny model has for placeholders of an image or a sound


@pytest.fixture
def model(decoder_case: Any, randomise: Callable[[Any], Any]) -> Decoder:
    built: Decoder = randomise(build_model(decoder_case.config)).eval()
    return built


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(NUM_WORDS, (2, 12))


@pytest.fixture
def sequences() -> list[Tensor]:
    return [torch.randint(NUM_WORDS, (length,)) for length in LENGTHS]


@torch.no_grad()
def logits(model: Decoder, tokens: Tensor, context: Context | None = None) -> Tensor:
    out: Tensor = model(tokens, context).logits
    return out


def packed(model: Decoder, sequences: Sequence[Tensor]) -> Tensor:
    context = Context.packed([len(s) for s in sequences], specs=model.cache_specs())
    return logits(model, torch.cat(list(sequences))[None], context)


class Pool:
    """The engine's side of the caches: blocks of 3 slots, handed out in a random order, and a state a sequence."""

    def __init__(self, model: Decoder, num_sequences: int, *, seed: int) -> None:
        self.model = model
        num_blocks = 5 * num_sequences
        self.free = random.Random(seed).sample(range(num_blocks), num_blocks)
        self.slots: list[list[int]] = [[] for _ in range(num_sequences)]
        memory: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
        self.pools = [
            PagedCache(3 * num_blocks, spec, **memory)
            if isinstance(spec, KeyValueSpec)
            else StatePool(num_sequences, spec, **memory)
            for spec in model.cache_specs()
        ]

    def step(self, new: dict[int, Tensor]) -> Tensor:
        """Run the next tokens of some sequences, packed; their logits end to end."""
        positions, lengths, write, read, is_new = [], [], [], [], []
        for i, tokens in new.items():
            start = len(self.slots[i])
            length = start + len(tokens)
            while len(self.slots[i]) < length:
                block = self.free.pop()
                self.slots[i] += range(3 * block, 3 * block + 3)
            positions += range(start, length)
            lengths += [length] * len(tokens)
            write += self.slots[i][start:length]
            read += self.slots[i][:length]
            is_new.append(start == 0)
            self.slots[i] = self.slots[i][:length]  # the rest of the last block stays unused
        offsets = torch.tensor([0, *accumulate(len(tokens) for tokens in new.values())])
        paged = PagedStep(
            write=torch.tensor(write),
            read=torch.tensor(read),
            query_offsets=offsets,
            key_offsets=torch.tensor([0, *accumulate(len(self.slots[i]) for i in new)]),
        )
        states = StateStep(slots=torch.tensor(list(new)), is_new=torch.tensor(is_new), offsets=offsets)
        context = Context(
            positions=torch.tensor([positions]),
            sequence_lengths=torch.tensor([lengths]),
            caches=[
                pool.at(paged) if isinstance(pool, PagedCache) else pool.at(states) for pool in self.pools
            ],
        )
        return logits(self.model, torch.cat(list(new.values()))[None], context)


def test_logits_have_a_row_a_token_and_a_column_a_vocabulary_entry(model: Decoder, tokens: Tensor) -> None:
    assert logits(model, tokens).shape == (2, 12, VOCAB_SIZE)
    assert model.vocab_size == VOCAB_SIZE


def test_hidden_then_head_is_logits(model: Decoder, tokens: Tensor) -> None:
    context = Context.dense(tokens, specs=model.cache_specs())
    with torch.no_grad():
        hidden = model.hidden(tokens, context)
        assert torch.equal(model.head(hidden), logits(model, tokens))
        assert torch.allclose(model.head(hidden[:, -1]), logits(model, tokens)[:, -1], atol=1e-5)


def test_who_collects_router_logits_gets_those_of_the_output(model: Decoder, tokens: Tensor) -> None:
    routed: list[Tensor] = []
    for _ in range(2):
        context = replace(Context.dense(tokens, specs=model.cache_specs()), router_logits=routed)
        out = model(tokens, context)
    assert len(routed) == 2 * len(out.router_logits)
    assert all(map(torch.equal, routed, 2 * out.router_logits))


def test_a_later_token_changes_no_earlier_logit(model: Decoder, tokens: Tensor) -> None:
    changed = tokens.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % NUM_WORDS
    before, after = logits(model, tokens), logits(model, changed)
    torch.testing.assert_close(before[:, :8], after[:, :8], rtol=0, atol=1e-5 * before.abs().max().item())
    assert not torch.isclose(before[:, 8:], after[:, 8:]).all(-1).any()


def test_an_earlier_token_changes_every_later_logit_in_reach(model: Decoder, tokens: Tensor) -> None:
    """All of them where nothing has a window; with one, as far as windows on windows see."""
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % NUM_WORDS
    windows = [spec.window for spec in model.cache_specs() if isinstance(spec, KeyValueSpec)]
    reach = 12 if None in windows or not windows else 1 + sum(w - 1 for w in windows if w is not None)
    before, after = logits(model, tokens), logits(model, changed)
    is_same = torch.isclose(before, after, rtol=0, atol=1e-5 * before.abs().max().item()).all(-1)
    assert not is_same[:, :reach].any()
    assert is_same[:, reach:].all()


def test_packed_equals_alone(
    model: Decoder, sequences: list[Tensor], assert_close: Callable[..., None]
) -> None:
    alone = torch.cat([logits(model, sequence[None]) for sequence in sequences], dim=1)
    assert_close(packed(model, sequences), alone)


def test_packed_sequences_do_not_see_each_other(model: Decoder, sequences: list[Tensor]) -> None:
    before = packed(model, sequences)
    sequences[1] = (sequences[1] + 1) % NUM_WORDS
    after = packed(model, sequences)
    middle = slice(LENGTHS[0], LENGTHS[0] + LENGTHS[1])
    is_same = torch.isclose(before, after, rtol=0, atol=1e-5 * before.abs().max().item()).all(-1)[0]
    assert is_same[: middle.start].all()
    assert is_same[middle.stop :].all()
    assert not is_same[middle].any()


def test_features_that_equal_embeddings_of_words_say_what_the_words_say(
    model: Decoder, tokens: Tensor, assert_close: Callable[..., None]
) -> None:
    """Where they stand too: an image's patches have positions, as words have."""
    is_placeholder = torch.zeros_like(tokens, dtype=torch.bool)
    is_placeholder[0, 2:5], is_placeholder[1, 7] = True, True
    features = model.embedding.scale * model.embedding.tokens.weight[tokens[is_placeholder]]
    context = replace(
        Context.dense(tokens, specs=model.cache_specs()), splice=Splice(is_placeholder, features)
    )
    assert_close(logits(model, tokens.masked_fill(is_placeholder, 0), context), logits(model, tokens))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(
    model: Decoder, sequences: list[Tensor], side: str, assert_close: Callable[..., None]
) -> None:
    longest = max(LENGTHS)
    tokens, mask = torch.zeros(3, longest, dtype=torch.long), torch.zeros(3, longest, dtype=torch.bool)
    places = [slice(0, len(s)) if side == "right" else slice(longest - len(s), longest) for s in sequences]
    for i, (place, sequence) in enumerate(zip(places, sequences, strict=True)):
        tokens[i, place], mask[i, place] = sequence, True
    with torch.no_grad():
        out = model(tokens, mask=mask).logits
    for i, (place, sequence) in enumerate(zip(places, sequences, strict=True)):
        assert_close(out[i, place], logits(model, sequence[None])[0])
    assert not out[~mask].any()


@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 1, 6]], ids=str)
def test_cached_equals_uncached_however_it_is_cut(
    model: Decoder, tokens: Tensor, chunks: list[int], assert_close: Callable[..., None]
) -> None:
    caches, outs, num_cached = model.new_caches(), [], 0
    for chunk in tokens.split(chunks, dim=1):
        context = Context.dense(chunk, specs=model.cache_specs(), caches=caches, num_cached=num_cached)
        outs.append(logits(model, chunk, context))
        num_cached += chunk.shape[1]
    assert_close(torch.cat(outs, dim=1), logits(model, tokens))


def test_memory_stops_growing_at_the_window(
    windowed_case: Any, tokens: Tensor, randomise: Callable[[Any], Any]
) -> None:
    model: Decoder = randomise(build_model(windowed_case.config)).eval()
    caches = model.new_caches()
    for position, token in enumerate(tokens.T):
        context = Context.dense(token[:, None], specs=model.cache_specs(), caches=caches, num_cached=position)
        logits(model, token[:, None], context)
    for cache, spec in zip(caches, model.cache_specs(), strict=True):
        if isinstance(cache, RollingCache):
            assert isinstance(spec, KeyValueSpec)
            assert cache.stored is not None
            assert cache.stored.k.shape[1] == spec.window
            assert spec.window < tokens.shape[1]


@pytest.mark.parametrize("seed", range(3))
def test_paged_equals_dense_whatever_the_blocks_and_the_company(
    model: Decoder, sequences: list[Tensor], seed: int, assert_close: Callable[..., None]
) -> None:
    """Each step runs some sequences by some tokens: prefill whole or in parts beside decoding."""
    pool, draw = Pool(model, len(sequences), seed=seed), random.Random(seed)
    done = [0] * len(sequences)
    outs: list[list[Tensor]] = [[] for _ in sequences]
    while unfinished := [i for i, s in enumerate(sequences) if done[i] < len(s)]:
        counts = {
            i: draw.choice([1, 3, 20]) for i in draw.sample(unfinished, draw.randint(1, len(unfinished)))
        }
        new = {i: sequences[i][done[i] : done[i] + n] for i, n in counts.items()}
        parts = pool.step(new).split([len(part) for part in new.values()], dim=1)
        for i, part in zip(new, parts, strict=True):
            outs[i].append(part)
            done[i] += part.shape[1]
    for sequence, parts in zip(sequences, outs, strict=True):
        assert_close(torch.cat(parts, dim=1), logits(model, sequence[None]))


def test_caching_layers_are_numbered_in_the_order_of_their_specs(model: Decoder, decoder_case: Any) -> None:
    assert len(model.cache_specs()) == decoder_case.config.num_layers == len(model.blocks)


def test_bf16_packed_stays_near_fp32(
    decoder_case: Any, model: Decoder, sequences: list[Tensor], assert_close: Callable[..., None]
) -> None:
    wanted = packed(model, sequences)
    model.to(torch.bfloat16)
    assert_close(packed(model, sequences), wanted, tolerance=decoder_case.bf16_tolerance)


def test_a_stream_in_bf16_is_in_fp32_where_only_norms_read_it(
    decoder_case: Any, model: Decoder, tokens: Tensor
) -> None:
    model.to(torch.bfloat16)
    sublayers = [sublayer for block in model.blocks for sublayer in block.children()]
    is_wide = all(isinstance(sublayer, PreNorm | Sandwich) for sublayer in sublayers)
    seen: list[torch.dtype] = []
    for block in model.blocks:
        block.register_forward_hook(lambda block, args, x: seen.append(x.dtype))
    assert logits(model, tokens).dtype is torch.bfloat16
    assert set(seen) == {torch.float32 if is_wide else torch.bfloat16}
    seen.clear()
    model(tokens)  # with a gradient
    assert set(seen) == {torch.bfloat16}


def test_bf16_activations_train_fp32_weights(
    decoder_case: Any, model: Decoder, sequences: list[Tensor]
) -> None:
    model.compute_dtype = torch.bfloat16
    context = Context.packed(LENGTHS, specs=model.cache_specs())
    hidden = model.hidden(torch.cat(sequences)[None], context)
    assert hidden.dtype == torch.bfloat16
    model.head(hidden).float().square().sum().backward()
    for name, parameter in model.named_parameters():
        if decoder_case.may_lack_gradient(name) or name.startswith("encoders."):  # here are only tokens
            continue
        if parameter.grad is None:
            assert ".experts." in name  # nobody chose it
            continue
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


def test_a_model_on_another_device_leaves_nothing_behind(
    decoder_case: Any, model: Decoder, tokens: Tensor
) -> None:
    model.to("meta")  # stands for any other device
    plain = [
        value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)
    ]
    assert all(tensor.device.type == "meta" for tensor in plain)
    if decoder_case.is_routed:
        return
    # With a context, so that nobody asks which ids are placeholders: on this device there are none.
    tokens = tokens.to("meta")
    context = Context.dense(tokens, specs=model.cache_specs())
    with torch.device("meta"):
        built_there = build_model(decoder_case.config)
    for out in (model(tokens, context).logits, built_there(tokens, context).logits):
        assert out.shape == (2, 12, VOCAB_SIZE)
        assert out.device.type == "meta"


def test_an_untrained_model_predicts_every_token_alike(decoder_case: Any, tokens: Tensor) -> None:
    model = initialise(build_model(decoder_case.config), seed=0)
    out = logits(model, tokens).log_softmax(-1)
    assert torch.allclose(out, torch.full_like(out, 1 / VOCAB_SIZE).log(), atol=1.0)
