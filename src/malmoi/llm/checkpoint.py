"""From a model directory, or a hub id, to an `LLM`: what begins and ends an answer, and how to sample by default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from malmoi.core.errors import CheckpointError, ConfigError, RequestError
from malmoi.core.files import read_json
from malmoi.engine import SamplingParams
from malmoi.llm.llm import LLM
from malmoi.llm.request_builder import named_token
from malmoi.models import load_model
from malmoi.models.checkpoint import Dtype
from malmoi.nn.stack import Decoder, Encoder, EncoderDecoder, Model
from malmoi.text.tokenizer import Tokenizer
from malmoi.weights.default import default_model
from malmoi.weights.hub import resolve

T = TypeVar("T")

_SAMPLING_KEYS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "stop_strings": "stop",
}
"""The keys of generation_config.json that `SamplingParams` has a field for. What has none is passed over:

num_beam_groups, diversity_penalty: how to search for answers that differ. The search here finds the likeliest.
no_repeat_ngram_size, encoder_no_repeat_ngram_size, encoder_repetition_penalty, min_length, begin_suppress_tokens,
sequence_bias, epsilon_cutoff, eta_cutoff: taste, which makes some answers better.
forced_eos_token_id: what stands where an answer is cut off; here it is cut off, and `finish_reason` says so.
max_length of a decoder: of prompt and answer together, which depends on the prompt; the context bounds it anyway.
"""

_SEARCH_KEYS = {
    "num_beams": "beam_width",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
}
"""More of them, read where nothing is drawn: to draw the beams of a search is passed over."""


def load(
    path_or_hub_id: str | Path | None = None,
    *,
    dtype: Dtype | None = None,
    device: torch.device | str = "cpu",
    engine_options: Mapping[str, Any] = MappingProxyType({}),
) -> LLM:
    """Load a model directory or a hub id; None: the model that ships with Malmoi.

    `dtype=None` keeps the precision of the file; "bf16", "fp32", "int8" and "int4" are others (`models.load_model`).
    `device` is where it runs, "cuda" for a GPU; weights in bf16 are laid out as it reads them fastest
    (`nn.packed.prepack`). Stop ids are those of generation_config.json, else of config.json, else the tokenizer's;
    default parameters those of
    generation_config.json. Without `do_sample` and `num_beams` a decoder samples and an encoder-decoder is greedy. The
    latter's answers begin with decoder_start_token_id, else bos_token_id, and forced_bos_token_id, as in
    `transformers`; a search does not count them into an answer's length.
    `engine_options` are arguments of `Engine` by name, such as `{"max_requests": 4}`.
    Raises CheckpointError, ConfigError, TokenizerError or HubError, each saying what to do.

    >>> llm = malmoi.load("runs/my-model", dtype="int8")    # doctest: +SKIP
    """
    directory = resolve(default_model() if path_or_hub_id is None else path_or_hub_id)
    model = _text_model(load_model(directory, dtype=dtype, device=device, is_prepacked=True))
    tokenizer = Tokenizer.load(directory)
    config, generation = (_Keys.read(directory / name) for name in ("config.json", "generation_config.json"))
    opening = _answer_opening(generation, config) if isinstance(model, EncoderDecoder) else []
    return LLM(
        model,
        tokenizer,
        template=directory,
        stop_ids=_stop_ids(generation, config, tokenizer),
        default_params=_default_params(generation, opening),
        answer_opening=opening,
        image_processor=directory,
        sound_processor=directory,
        engine_options=engine_options,
    )


@dataclass(frozen=True)
class _Keys:
    """The keys of a file, and what is wrong with them. Null counts as absent, and a file that is not there has none."""

    values: Mapping[str, Any]
    file: Path

    @classmethod
    def read(cls, file: Path) -> "_Keys":
        keys = read_json(file, error=CheckpointError) if file.is_file() else {}
        return cls({key: value for key, value in keys.items() if value is not None}, file)

    def error(self, key: str, problem: object) -> CheckpointError:
        return CheckpointError(f"{self.file}: {key}={self.values[key]!r:.80}: {problem}")

    def take(self, key: str, kind: type[T], default: T) -> T:
        """Raises CheckpointError for a value that is no `kind`."""
        value = self.values.get(key, default)
        if type(value) is not kind:
            raise self.error(key, f"this is not of the type {kind.__name__}. Correct it.")
        return value

    def id(self, key: str) -> int | None:
        """A token. Raises CheckpointError for anything else."""
        if key not in self.values:
            return None
        if len(ids := self.ids(key)) != 1 or isinstance(self.values[key], list):
            raise self.error(key, "this is not the id of one token. Correct it.")
        return ids[0]

    def ids(self, key: str) -> list[int]:
        """A token or several. Raises CheckpointError for anything else."""
        value = self.values.get(key, [])
        ids = value if isinstance(value, list) else [value]
        if not all(map(_is_id, ids)):
            raise self.error(key, "this is neither the id of a token nor a list of them. Correct it.")
        return ids

    def into(self, params: SamplingParams, key: str, **changes: Any) -> SamplingParams:
        """`params` with the changes that `key` asks for. Raises CheckpointError for a value out of its range."""
        try:
            return replace(params, **changes)
        except (RequestError, TypeError) as error:
            raise self.error(key, error) from None


def _text_model(model: Model) -> Decoder | EncoderDecoder:
    """`model`, if it goes from text to text. Raises ConfigError if not."""
    if isinstance(model, Encoder):
        raise ConfigError(
            "this model is an encoder: it reads text and writes none. Use `malmoi embed` or `malmoi classify`, or "
            "TextEncoder.load."
        )
    if not isinstance(model, Decoder | EncoderDecoder):
        raise ConfigError(
            f"a model of the kind {type(model).__name__} writes no text. Use a decoder or an encoder-decoder."
        )
    return model


def _answer_opening(generation: _Keys, config: _Keys) -> list[int]:
    def said(key: str) -> int | None:
        return generation.id(key) if key in generation.values else config.id(key)

    start, forced = said("decoder_start_token_id"), said("forced_bos_token_id")
    start = said("bos_token_id") if start is None else start
    if start is None:
        raise CheckpointError(
            "neither generation_config.json nor config.json says which token the decoder starts with. Add "
            "decoder_start_token_id to generation_config.json: the id that every target began with in training."
        )
    return [start] if forced is None else [start, forced]


def _stop_ids(generation: _Keys, config: _Keys, tokenizer: Tokenizer) -> frozenset[int]:
    for keys in (generation, config):
        if "eos_token_id" in keys.values:
            return frozenset(keys.ids("eos_token_id"))
    return frozenset(named_token(tokenizer, "eos_token"))


def _default_params(generation: _Keys, opening: Sequence[int]) -> SamplingParams:
    """How to sample; `opening` is what an answer of an encoder-decoder begins with, nothing for a decoder."""
    params = SamplingParams(logit_bias=dict.fromkeys(_forbidden(generation), -100.0))
    params = _taken(params, generation, _SAMPLING_KEYS)
    if opening and params.max_tokens is None and "max_length" in generation.values:
        length = generation.take("max_length", int, 0)
        params = generation.into(params, "max_length", max_tokens=length - len(opening))
    has_search = generation.take("num_beams", int, 1) > 1
    if generation.take("do_sample", bool, not opening and not has_search):
        return params
    return _taken(replace(params, temperature=0.0), generation, _SEARCH_KEYS)


def _taken(params: SamplingParams, generation: _Keys, names: Mapping[str, str]) -> SamplingParams:
    """`params` with the fields that the file's keys give. Raises CheckpointError for a value out of its range."""
    for key, name in names.items():
        if key in generation.values:
            value = generation.values[key]
            params = generation.into(
                params, key, **{name: tuple(value) if isinstance(value, list) else value}
            )
    return params


def _forbidden(generation: _Keys) -> list[int]:
    """The tokens that no answer has. Raises CheckpointError for words of several, which nothing here forbids."""
    words = generation.take("bad_words_ids", list, [])
    if not all(isinstance(word, list) and len(word) == 1 and _is_id(word[0]) for word in words):
        raise generation.error(
            "bad_words_ids", "only lists of one token each are forbidden here. Remove the others."
        )
    return [*generation.ids("suppress_tokens"), *(word[0] for word in words)]


def _is_id(value: object) -> bool:
    return type(value) is int and value >= 0
