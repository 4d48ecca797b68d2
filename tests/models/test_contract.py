"""What every family obeys: one file, run over each tiny configuration of `conftest.py`."""

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.core.config import from_mapping, to_mapping
from malmoi.models import build_model, count_parameters, family_names, initialise, load_model, save_model
from malmoi.models.registry import family_of
from malmoi.nn.cache import DenseCache, PagedCache, PagedStep
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder

LENGTHS = (7, 1, 12)  # of the sequences that share a step


@pytest.fixture
def model(config: Any, randomise: Callable[[Any], Any]) -> Decoder:
    built: Decoder = randomise(build_model(config)).eval()
    return built


@pytest.fixture
def tokens(config: Any) -> Tensor:
    return torch.randint(config.vocab_size, (2, 12))


@pytest.fixture
def sequences(config: Any) -> list[Tensor]:
    return [torch.randint(config.vocab_size, (length,)) for length in LENGTHS]


def logits(model: Decoder, tokens: Tensor, context: Context | None = None) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(tokens, context).logits
        return out


def packed(model: Decoder, sequences: Sequence[Tensor]) -> Tensor:
    context = Context.packed([len(s) for s in sequences], num_layers=len(model.blocks))
    return logits(model, torch.cat(list(sequences))[None], context)


class Pool:
    """The engine's side of a paged cache: blocks of 3 slots, handed out in a random order."""

    def __init__(self, model: Decoder, num_sequences: int, *, seed: int) -> None:
        self.model = model
        num_blocks = 5 * num_sequences
        self.free = random.Random(seed).sample(range(num_blocks), num_blocks)
        self.slots: list[list[int]] = [[] for _ in range(num_sequences)]
        self.caches = [
            PagedCache(3 * num_blocks, s.num_kv_heads, s.head_dim, dtype=torch.float32, device="cpu")
            for s in model.cache_specs()
        ]

    def step(self, new: dict[int, Tensor]) -> Tensor:
        """Run the next tokens of some sequences, packed; their logits end to end."""
        positions, lengths, write, read = [], [], [], []
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
            self.slots[i] = self.slots[i][:length]  # the rest of the last block stays unused
        counts = [len(tokens) for tokens in new.values()]
        step = PagedStep(
            write=torch.tensor(write),
            read=torch.tensor(read),
            query_offsets=torch.tensor([0, *accumulate(counts)]),
            key_offsets=torch.tensor([0, *accumulate(len(self.slots[i]) for i in new)]),
        )
        context = Context(
            positions=torch.tensor([positions]),
            sequence_lengths=torch.tensor([lengths]),
            caches=[cache.at(step) for cache in self.caches],
        )
        return logits(self.model, torch.cat(list(new.values()))[None], context)


def test_every_family_is_under_contract(tiny: dict[str, Any]) -> None:
    assert {family_of(config).model_type for config in tiny.values()} == set(family_names())


def test_logits_have_a_row_a_token_and_a_column_a_vocabulary_entry(
    model: Decoder, tokens: Tensor, config: Any
) -> None:
    out = logits(model, tokens)
    assert out.shape == (2, 12, config.vocab_size)
    assert out.dtype == model.dtype == torch.float32
    assert out.isfinite().all()


def test_hidden_then_head_is_logits(model: Decoder, tokens: Tensor) -> None:
    context = Context.dense(tokens, num_layers=len(model.blocks))
    with torch.no_grad():
        hidden = model.hidden(tokens, context)
        assert torch.equal(model.head(hidden), logits(model, tokens))
        assert torch.allclose(model.head(hidden[:, -1]), logits(model, tokens)[:, -1], atol=1e-5)


def test_the_same_forward_gives_the_same_bits(model: Decoder, tokens: Tensor) -> None:
    assert torch.equal(logits(model, tokens), logits(model, tokens))


def test_gradients_are_finite_and_reach_every_parameter(model: Decoder, sequences: list[Tensor]) -> None:
    context = Context.packed(LENGTHS, num_layers=len(model.blocks))
    out = model(torch.cat(sequences)[None], context).logits
    out.log_softmax(-1)[..., 0].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A softmax does not see what all keys of a query have in common, and that is all that a bias of k adds.
        if not name.endswith("attention.mixer.k.bias"):
            assert parameter.grad.count_nonzero(), name


def test_a_later_token_changes_no_earlier_logit(model: Decoder, tokens: Tensor, config: Any) -> None:
    changed = tokens.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % config.vocab_size
    before, after = logits(model, tokens), logits(model, changed)
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.isclose(before[:, 8:], after[:, 8:]).all(-1).any()


def test_an_earlier_token_changes_every_later_logit(model: Decoder, tokens: Tensor, config: Any) -> None:
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % config.vocab_size
    assert not torch.isclose(logits(model, tokens), logits(model, changed)).all(-1).any()


def test_packed_equals_alone(
    model: Decoder, sequences: list[Tensor], assert_close: Callable[..., None]
) -> None:
    alone = torch.cat([logits(model, sequence[None]) for sequence in sequences], dim=1)
    assert_close(packed(model, sequences), alone)


def test_packed_sequences_do_not_see_each_other(model: Decoder, sequences: list[Tensor], config: Any) -> None:
    before = packed(model, sequences)
    sequences[1] = (sequences[1] + 1) % config.vocab_size
    after = packed(model, sequences)
    middle = slice(LENGTHS[0], LENGTHS[0] + LENGTHS[1])
    is_same = (before == after).all(-1)[0]
    assert is_same[: middle.start].all()
    assert is_same[middle.stop :].all()
    assert not is_same[middle].any()


@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 1, 6]], ids=str)
def test_cached_equals_uncached_however_it_is_cut(
    model: Decoder, tokens: Tensor, chunks: list[int], assert_close: Callable[..., None]
) -> None:
    caches, outs, num_cached = [DenseCache() for _ in model.blocks], [], 0
    for chunk in tokens.split(chunks, dim=1):
        context = Context.dense(chunk, num_layers=len(caches), caches=caches, num_cached=num_cached)
        outs.append(logits(model, chunk, context))
        num_cached += chunk.shape[1]
    assert_close(torch.cat(outs, dim=1), logits(model, tokens))


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


def test_cache_specs_have_one_entry_a_layer(model: Decoder, config: Any) -> None:
    assert len(model.cache_specs()) == config.num_layers == len(model.blocks)


def test_bf16_weights_run_and_stay_near_fp32(
    model: Decoder, tokens: Tensor, sequences: list[Tensor], assert_close: Callable[..., None]
) -> None:
    wanted, wanted_packed = logits(model, tokens), packed(model, sequences)
    model.to(torch.bfloat16)
    assert model.dtype == logits(model, tokens).dtype == torch.bfloat16
    assert_close(logits(model, tokens), wanted, tolerance=0.1)
    assert_close(packed(model, sequences), wanted_packed, tolerance=0.1)


def test_bf16_activations_train_fp32_weights(model: Decoder, sequences: list[Tensor]) -> None:
    model.compute_dtype = torch.bfloat16
    context = Context.packed(LENGTHS, num_layers=len(model.blocks))
    hidden = model.hidden(torch.cat(sequences)[None], context)
    assert hidden.dtype == torch.bfloat16
    hidden.float().square().sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p is not model.head.weight}
    for name, grad in grads.items():
        assert grad is not None, name
        assert grad.dtype == torch.float32, name
        assert grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_loads_bit_for_bit(
    model: Decoder, tokens: Tensor, config: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    model.to(dtype)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == config
    assert loaded.dtype == dtype
    assert not loaded.training
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(logits(loaded, tokens), logits(model, tokens))


def test_a_model_is_saved_and_loaded_in_the_precision_that_is_asked_for(
    model: Decoder, tmp_path: Path
) -> None:
    save_model(model, tmp_path, dtype=torch.bfloat16)
    assert load_model(tmp_path).dtype == torch.bfloat16
    assert load_model(tmp_path, dtype=torch.float32).dtype == torch.float32
    assert model.dtype == torch.float32


def test_a_loaded_model_keeps_its_ties(model: Decoder, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    assert count_parameters(load_model(tmp_path)) == count_parameters(model)


def test_a_model_without_memory_has_the_same_shapes(model: Decoder, config: Any, tokens: Tensor) -> None:
    with torch.device("meta"):
        empty = build_model(config)
    assert {n: p.shape for n, p in empty.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    assert all(p.device.type == "meta" for p in empty.parameters())
    model.to("meta")  # stands for any other device: nothing may stay behind
    out = model(tokens.to("meta")).logits
    assert out.shape == (2, 12, config.vocab_size)
    assert out.device.type == "meta"


def test_initial_weights_depend_on_the_seed_alone(config: Any, tokens: Tensor) -> None:
    torch.manual_seed(1)
    first = initialise(build_model(config), seed=5)
    second = build_model(config)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(torch.nan)
    initialise(second, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = initialise(build_model(config), seed=6)
    assert not torch.equal(logits(first, tokens), logits(other, tokens))


def test_an_untrained_model_predicts_every_token_alike(config: Any, tokens: Tensor) -> None:
    out = logits(initialise(build_model(config), seed=0), tokens).log_softmax(-1)
    assert torch.allclose(out, torch.full_like(out, 1 / config.vocab_size).log(), atol=0.6)


def test_a_configuration_survives_being_a_mapping(config: Any) -> None:
    assert from_mapping(type(config), to_mapping(config), where="test") == config


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_equals_eager(
    backend: str, tiny: dict[str, Any], randomise: Callable[[Any], Any], tmp_path: Path
) -> None:
    """The graph of every family; the code that PyTorch makes of it for one, as it is not the family's doing."""
    names = [*tiny] if backend == "aot_eager" else ["llama, all options"]
    for name in names:
        save_model(randomise(build_model(tiny[name])), tmp_path / name)
    # A process without the checks of annotations, which the compiler cannot trace.
    script = Path(__file__).parent / "compare_compiled.py"
    command = [sys.executable, "-W", "error", script, backend, *(tmp_path / name for name in names)]
    child = subprocess.run(command, check=False, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-2000:]
