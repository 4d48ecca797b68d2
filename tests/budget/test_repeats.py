"""Equal parts are rehearsed once, and the numbers are those of the whole rehearsal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from malmoi.budget import Rehearsal, decode_flops, generation_bytes, on_paper
from malmoi.budget.forwards import rehearse_forward
from malmoi.budget.repeats import kinds_of, rehearsal_of
from malmoi.models.registry import find_preset
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder, EncoderDecoder, Model
from malmoi.testing.models import tiny_llama


@contextmanager
def whole_rehearsal(model: Model) -> Iterator[Rehearsal]:
    with torch.no_grad(), Rehearsal() as rehearsal:
        yield rehearsal


def numbers(model: Model, length: int) -> list[int]:
    """What is said of a model: of two rows, of a token, and of two sequences."""
    forward = rehearse_forward(model, length, batch=2)
    found = [forward.flops, forward.peak_bytes]
    if isinstance(model, Decoder | EncoderDecoder):
        found += [decode_flops(model, length), generation_bytes(model, length, batch=2)]
    return found


def assert_equal_to_the_whole(model: Model, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = numbers(model, length)
    monkeypatch.setattr("malmoi.budget.forwards.rehearsal_of", whole_rehearsal)
    assert found == numbers(model, length)


def test_numbers_are_those_of_the_whole_rehearsal(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal_to_the_whole(on_paper(case.config), 12, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma3-1b", "mixtral-8x7b", "t5-small", "whisper-tiny"])
def test_numbers_of_published_models_are_those_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal_to_the_whole(on_paper(find_preset(name), torch.bfloat16), 300, monkeypatch)


class Part(nn.Module):
    """Counts how often it is run; keeps what it makes, if it `is_keeping`."""

    def __init__(self, *, is_keeping: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 4, device="meta"))
        self.is_keeping = is_keeping

    def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
        RUNS.append(self)
        out = x @ self.weight
        if self.is_keeping:
            KEPT.append(out)
        return torch.relu(out)


RUNS: list[Part] = []
KEPT: list[torch.Tensor] = []


@pytest.fixture(autouse=True)
def nothing_has_run() -> None:
    RUNS.clear()
    KEPT.clear()


def run(parts: list[Part], contexts: list[Context]) -> Rehearsal:
    model = nn.ModuleList(parts)
    x = torch.empty(1, 3, 4, device="meta")
    with rehearsal_of(model) as rehearsal:
        for context in contexts:
            for part in model:
                x = part(x, context)
    return rehearsal


def context() -> Context:
    return Context.rows(1, 3, specs=[])


def test_of_equal_parts_the_first_runs_and_the_others_cost_the_same() -> None:
    parts = [Part() for _ in range(5)]
    rehearsal = run(parts, [context()])
    assert parts[:1] == RUNS
    assert rehearsal.flops == 5 * 2 * 3 * 4 * 4
    assert rehearsal.peak_bytes == 3 * 3 * 4 * 4  # what came in, the product, and what is made of it
    assert [vars(part).get("forward") for part in parts] == [None] * 5


def test_what_is_kept_besides_the_output_is_not_left_out() -> None:
    parts = [Part(is_keeping=True) for _ in range(5)]
    assert run(parts, [context()]).num_bytes == 5 * 3 * 4 * 4
    assert parts == RUNS


def test_every_context_is_rehearsed_anew() -> None:
    parts = [Part(), Part()]
    run(parts, [context(), context()])
    assert [parts[0], parts[0]] == RUNS


def test_an_error_leaves_the_model_as_it_was() -> None:
    part = Part()
    with pytest.raises(RuntimeError), rehearsal_of(nn.ModuleList([part])):
        part(torch.empty(1, 3, 5, device="meta"), context())
    assert "forward" not in vars(part)


def test_one_kind_is_one_class_with_equal_values_weights_and_parts() -> None:
    def attention(**changes: Any) -> Attention:
        shape: dict[str, Any] = {"hidden_size": 8, "num_heads": 2, "num_kv_heads": 2, "head_dim": 4}
        return Attention(**(shape | {"rule": AttentionRule()} | changes))

    others = [
        {"rule": AttentionRule(window=3)},
        {"rope": None},
        {"num_kv_heads": 1},
        {"q_norm": nn.RMSNorm(4)},
    ]
    layers = [attention(), attention(), *(attention(**other) for other in others)]
    kinds = kinds_of(nn.ModuleList(layers))
    assert [kinds[layer] for layer in layers[:2]] == [kinds[layers[0]]] * 2
    assert len({kinds[layer] for layer in layers}) == 1 + len(others)


def test_the_layers_of_a_stack_differ_only_by_their_number() -> None:
    model = tiny_llama()
    kinds = kinds_of(model)
    assert kinds[model.blocks[0]] == kinds[model.blocks[1]]
    model.blocks[1].double()
    assert len({kinds_of(model)[block] for block in model.blocks}) == 2
