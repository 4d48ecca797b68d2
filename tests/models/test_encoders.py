"""What every encoder obeys: every token sees every other, whatever padding stands around it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.models import build_model
from malmoi.nn.stack import Encoder

LENGTHS = (7, 1, 12)
VOCAB_SIZE = 61


@pytest.fixture
def model(encoder_case: Any, randomise: Callable[[Any], Any]) -> Encoder:
    built: Encoder = randomise(build_model(encoder_case.config)).eval()
    return built


@torch.no_grad()
def hidden(model: Encoder, tokens: Tensor, **inputs: Tensor) -> Tensor:
    out: Tensor = model(tokens, **inputs).hidden
    return out


def test_states_have_a_row_a_token(model: Encoder) -> None:
    tokens = torch.randint(VOCAB_SIZE, (2, 12))
    assert hidden(model, tokens).shape[:2] == (2, 12)


def test_every_token_changes_every_state(model: Encoder) -> None:
    tokens = torch.randint(VOCAB_SIZE, (2, 12))
    for position in (0, 6, 11):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % VOCAB_SIZE
        assert not torch.isclose(hidden(model, tokens), hidden(model, changed)).all(-1).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model: Encoder, side: str, assert_close: Callable[..., None]) -> None:
    longest = max(LENGTHS)
    tokens, mask = torch.zeros(3, longest, dtype=torch.long), torch.zeros(3, longest, dtype=torch.bool)
    places = [slice(0, n) if side == "right" else slice(longest - n, longest) for n in LENGTHS]
    for i, place in enumerate(places):
        tokens[i, place], mask[i, place] = torch.randint(VOCAB_SIZE, tokens[i, place].shape), True
    with torch.no_grad():
        out = model(tokens, mask=mask)
    for i, place in enumerate(places):
        with torch.no_grad():
            alone = model(tokens[i : i + 1, place])
        assert_close(out.hidden[i, place], alone.hidden[0])
        if alone.logits is not None:
            ours = out.logits[i] if out.logits.shape[1:2] != (longest,) else out.logits[i, place]
            assert_close(ours, alone.logits[0])
    assert not out.hidden[~mask].any()
