"""What every encoder-decoder obeys: a causal decoder, a source that all of it sees, padding that nobody sees."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.models import build_model
from malmoi.nn.context import Context
from malmoi.nn.stack import EncoderDecoder

VOCAB_SIZE = 61
SOURCE_LENGTHS, LENGTHS = (7, 2, 12), (5, 9, 1)


@pytest.fixture
def model(encoder_decoder_case: Any, randomise: Callable[[Any], Any]) -> EncoderDecoder:
    built: EncoderDecoder = randomise(build_model(encoder_decoder_case.config)).eval()
    return built


@pytest.fixture
def inputs(
    encoder_decoder_case: Any, model: EncoderDecoder, inputs_of: Callable[[Any, Any], dict[str, Tensor]]
) -> dict[str, Tensor]:
    return inputs_of(encoder_decoder_case, model)


@torch.no_grad()
def logits(model: EncoderDecoder, inputs: dict[str, Tensor], **changes: Tensor) -> Tensor:
    out: Tensor = model(**(inputs | changes)).logits
    return out


def changed_at(tokens: Tensor, place: slice) -> Tensor:
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % VOCAB_SIZE
    return changed


def written(inputs: dict[str, Tensor]) -> str:
    """The name of what the decoder writes."""
    return "decoder_tokens" if "decoder_tokens" in inputs else "tokens"


def test_a_later_token_changes_no_earlier_logit(model: EncoderDecoder, inputs: dict[str, Tensor]) -> None:
    name = written(inputs)
    before = logits(model, inputs)
    after = logits(model, inputs, **{name: changed_at(inputs[name], slice(4, None))})
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-5 * before.abs().max().item())
    assert not torch.isclose(before[:, 4:], after[:, 4:]).all(-1).any()


def test_every_part_of_the_source_changes_every_logit(
    model: EncoderDecoder, inputs: dict[str, Tensor]
) -> None:
    source = next(iter(inputs.keys() - {written(inputs)}))
    before = logits(model, inputs)
    for position in (0, -1):
        other = inputs[source].clone()
        place = other[..., position] if other.is_floating_point() else other[:, position]
        place.copy_(place + 1 if other.is_floating_point() else (place + 1) % VOCAB_SIZE)
        assert not torch.isclose(before, logits(model, inputs, **{source: other})).all(-1).any()


@pytest.mark.parametrize("chunks", [[7], [1] * 7, [4, 1, 2]], ids=str)
def test_cached_equals_uncached_however_it_is_cut(
    model: EncoderDecoder,
    inputs: dict[str, Tensor],
    chunks: Sequence[int],
    assert_close: Callable[..., None],
) -> None:
    """The source comes with the first chunk; later its length is 0."""
    name = written(inputs)
    source = next(iter(inputs.keys() - {name}))
    caches, outs, num_cached = model.new_caches(), [], 0
    with torch.no_grad():
        states = model.encode(inputs[source])
        for chunk in inputs[name].split(list(chunks), dim=1):
            context = Context.dense(
                chunk, specs=model.cache_specs(), caches=caches, num_cached=num_cached, source=states
            )
            outs.append(model.head(model.hidden(chunk, context)))
            num_cached += chunk.shape[1]
            states = states[:, :0]
    assert_close(torch.cat(outs, dim=1), logits(model, inputs))


def test_packed_equals_alone(
    text_to_text_case: Any, randomise: Callable[[Any], Any], assert_close: Callable[..., None]
) -> None:
    model: EncoderDecoder = randomise(build_model(text_to_text_case.config)).eval()
    sources = [torch.randint(VOCAB_SIZE, (1, n)) for n in SOURCE_LENGTHS]
    targets = [torch.randint(VOCAB_SIZE, (1, n)) for n in LENGTHS]
    with torch.no_grad():
        places = Context.packed(SOURCE_LENGTHS, specs=model.encoder.cache_specs())
        context = Context.packed(
            LENGTHS,
            specs=model.cache_specs(),
            source=model.encode(torch.cat(sources, dim=1), places),
            source_lengths=SOURCE_LENGTHS,
        )
        packed = model.head(model.hidden(torch.cat(targets, dim=1), context))
        alone = [model(s, decoder_tokens=t).logits for s, t in zip(sources, targets, strict=True)]
    assert_close(packed, torch.cat(alone, dim=1))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_the_source_changes_nothing(
    text_to_text_case: Any, side: str, randomise: Callable[[Any], Any], assert_close: Callable[..., None]
) -> None:
    model: EncoderDecoder = randomise(build_model(text_to_text_case.config)).eval()
    longest = max(SOURCE_LENGTHS)
    tokens, mask = torch.zeros(3, longest, dtype=torch.long), torch.zeros(3, longest, dtype=torch.bool)
    places = [slice(0, n) if side == "right" else slice(longest - n, longest) for n in SOURCE_LENGTHS]
    for i, place in enumerate(places):
        tokens[i, place], mask[i, place] = torch.randint(VOCAB_SIZE, tokens[i, place].shape), True
    decoder_tokens = torch.randint(VOCAB_SIZE, (3, 6))
    with torch.no_grad():
        out = model(tokens, decoder_tokens=decoder_tokens, mask=mask).logits
        for i, place in enumerate(places):
            alone = model(tokens[i : i + 1, place], decoder_tokens=decoder_tokens[i : i + 1]).logits
            assert_close(out[i], alone[0])
