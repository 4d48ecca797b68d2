"""The same numbers as transformers, from the same files, in both directions, padded, cached and generated."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.engine import Engine, SamplingParams
from malmoi.models import build_model, load_model, save_model
from malmoi.models.huggingface import ConfigReader
from malmoi.models.registry import find_family
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder, Encoder, EncoderDecoder, Model

Check = Callable[..., None]
Inputs = dict[str, Tensor]
VOCAB_SIZE = 61


@pytest.fixture
def compare(
    call: Callable[[Model, Inputs], Tensor],
    call_reference: Callable[[Any, Any, Inputs], Tensor],
    assert_close: Check,
) -> Callable[[Any, Model, Any, Inputs], None]:
    """A function that compares our output with the reference's."""

    @torch.no_grad()
    def check(case: Any, ours: Model, theirs: Any, inputs: Inputs) -> None:
        assert_close(call(ours, inputs), call_reference(case, theirs, inputs))

    return check


def test_we_compute_what_transformers_saved(
    their_case: Any, tmp_path: Path, save_reference: Any, inputs_of: Any, compare: Any
) -> None:
    theirs = save_reference(their_case, tmp_path)
    ours = load_model(tmp_path)
    compare(their_case, ours, theirs, inputs_of(their_case, ours))


def test_transformers_computes_what_we_saved(
    referenced_case: Any, tmp_path: Path, randomise: Any, load_reference: Any, inputs_of: Any, compare: Any
) -> None:
    ours = randomise(build_model(referenced_case.config)).eval()
    save_model(ours, tmp_path)
    compare(referenced_case, ours, load_reference(tmp_path), inputs_of(referenced_case, ours))


def test_through_us_and_back_every_tensor_is_the_same(
    their_case: Any, tmp_path: Path, save_reference: Any
) -> None:
    save_reference(their_case, tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours")
    before, after = (load_file(tmp_path / who / "model.safetensors") for who in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_padded_rows_equal_the_reference_where_they_are_real(
    their_token_case: Any, tmp_path: Path, save_reference: Any, call_reference: Any, assert_close: Check
) -> None:
    theirs = save_reference(their_token_case, tmp_path)
    ours = load_model(tmp_path)
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[0, 7:], mask[1, 1:] = False, False
    inputs: Inputs = {"tokens": torch.randint(VOCAB_SIZE, (3, 12)), "mask": mask}
    if isinstance(ours, EncoderDecoder):
        inputs["decoder_tokens"] = torch.randint(VOCAB_SIZE, (3, 5))
    with torch.no_grad():
        out = ours(**inputs)
    wanted = call_reference(their_token_case, theirs, inputs | {"mask": mask.long()})
    logits = out.logits if not isinstance(ours, Encoder) or out.logits is not None else out.hidden
    is_by_token = not isinstance(ours, EncoderDecoder) and wanted.ndim == 3
    assert_close(logits[mask] if is_by_token else logits, wanted[mask] if is_by_token else wanted)


@torch.no_grad()
def test_cached_logits_equal_the_reference_chunk_by_chunk(
    their_decoder_case: Any, tmp_path: Path, save_reference: Any, assert_close: Check
) -> None:
    theirs = save_reference(their_decoder_case, tmp_path)
    ours = load_model(tmp_path)
    assert isinstance(ours, Decoder)
    assert_same_cached_logits(ours, theirs, torch.randint(VOCAB_SIZE, (2, 12)), [5, 1, 1, 4, 1], assert_close)


@torch.no_grad()
def assert_same_cached_logits(
    ours: Decoder, theirs: Any, tokens: Tensor, chunks: Sequence[int], assert_close: Check
) -> None:
    caches, past, num_cached = ours.new_caches(), None, 0
    for chunk in tokens.split(list(chunks), dim=1):
        context = Context.dense(chunk, specs=ours.cache_specs(), caches=caches, num_cached=num_cached)
        wanted = theirs(chunk, past_key_values=past, use_cache=True)
        assert_close(ours(chunk, context).logits, wanted.logits)
        past, num_cached = wanted.past_key_values, num_cached + chunk.shape[1]


def test_greedy_generation_equals_the_reference(
    their_decoder_case: Any, tmp_path: Path, save_reference: Any
) -> None:
    theirs = save_reference(their_decoder_case, tmp_path)
    ours = load_model(tmp_path)
    assert isinstance(ours, Decoder)
    prompts = torch.randint(VOCAB_SIZE, (3, 6))
    wanted = theirs.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=16, do_sample=False, pad_token_id=0
    )
    answers = Engine(ours).generate(prompts.tolist(), SamplingParams(temperature=0, max_tokens=16))
    assert [answer.tokens for answer in answers] == wanted[:, 6:].tolist()


def test_greedy_generation_from_a_source_equals_the_reference(
    their_text_to_text_case: Any, tmp_path: Path, save_reference: Any
) -> None:
    theirs = save_reference(their_text_to_text_case, tmp_path)
    ours = load_model(tmp_path)
    assert isinstance(ours, EncoderDecoder)
    sources, start = torch.randint(VOCAB_SIZE, (3, 6)), 2
    wanted = theirs.generate(
        sources,
        attention_mask=torch.ones_like(sources),
        max_new_tokens=16,
        do_sample=False,
        decoder_start_token_id=start,
        pad_token_id=0,
        use_cache=False,  # its cache has as many layers as T5's encoder, whatever the decoder has
    )
    params = SamplingParams(temperature=0, max_tokens=16)
    answers = Engine(ours).generate([[start]] * 3, params, sources=sources.tolist())
    assert [answer.ids for answer in answers] == wanted.tolist()


def test_special_tokens_are_not_made_up(
    referenced_case: Any, tmp_path: Path, randomise: Any, load_reference: Any
) -> None:
    """Without these keys transformers would stop a Llama at its token 2, whatever that is in our vocabulary."""
    save_model(randomise(build_model(referenced_case.config)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["eos_token_id"] is None
    theirs = load_reference(tmp_path)
    if theirs.can_generate():
        assert theirs.generation_config.eos_token_id is None


def test_a_key_that_a_file_leaves_out_means_what_the_reference_takes(their_case: Any) -> None:
    """Published files leave out what equals a default, and the laws above see only files that say everything."""
    everything = json.loads(their_case.config.to_json_string())
    for key in everything.keys() - {"model_type", "architectures"}:
        shorter = {name: value for name, value in everything.items() if name != key}
        try:
            theirs = type(their_case.config).from_dict(deepcopy(shorter))  # which writes into nested ones
        except Exception:  # noqa: BLE001  # its validation raises what it likes: the key has no default
            continue
        try:
            ours = read_raw(shorter)
        except ConfigError:  # we may ask for what the reference guesses
            continue
        assert ours == read_raw(json.loads(theirs.to_json_string())), key


def read_raw(raw: dict[str, Any]) -> Any:
    reader = ConfigReader(raw, where="test")
    config = find_family(raw["model_type"]).read_config(reader)
    reader.finish()
    return config
