"""From a model directory, or a hub id, to an `LLM`: what begins and ends an answer, and how to sample by default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.core.files import read_json
from malmoi.engine import SamplingParams
from malmoi.llm.llm import LLM, named_token
from malmoi.models import load_model
from malmoi.nn.audio import AudioToText
from malmoi.nn.stack import Decoder, EncoderDecoder, Model
from malmoi.text.tokenizer import Tokenizer
from malmoi.weights.default import default_model
from malmoi.weights.hub import resolve

_SAMPLING_KEYS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def load(path_or_hub_id: str | Path | None = None, *, dtype: torch.dtype | None = None) -> LLM:
    """Load a model directory or a hub id; None: the model that ships with Malmoi.

    `dtype=None` keeps the precision of the file. Stop ids are those of generation_config.json, else of
    config.json, else the tokenizer's; default parameters those of generation_config.json. An encoder-decoder's answers
    begin with decoder_start_token_id, else bos_token_id, and forced_bos_token_id, as in `transformers`.
    Raises CheckpointError, ConfigError, TokenizerError or HubError, each saying what to do.

    >>> llm = malmoi.load("runs/my-model", dtype=torch.float32)    # doctest: +SKIP
    """
    directory = resolve(default_model() if path_or_hub_id is None else path_or_hub_id)
    model = _text_model(load_model(directory, dtype=dtype))
    tokenizer = Tokenizer.load(directory)
    config, generation = (_read(directory / name) for name in ("config.json", "generation_config.json"))
    return LLM(
        model,
        tokenizer,
        template=directory,
        stop_ids=_stop_ids(generation, config, tokenizer),
        default_params=_default_params(generation),
        answer_opening=_answer_opening(generation, config) if isinstance(model, EncoderDecoder) else (),
        image_processor=directory,
        sound_processor=directory,
    )


def _read(file: Path) -> dict[str, Any]:
    return read_json(file, error=CheckpointError) if file.is_file() else {}


def _text_model(model: Model) -> Decoder | EncoderDecoder:
    """`model`, if it goes from text to text. Raises ConfigError if not."""
    if isinstance(model, AudioToText):
        raise ConfigError("this model reads sound, not text. Use `malmoi transcribe`, or Transcriber.load.")
    if not isinstance(model, Decoder | EncoderDecoder):
        raise ConfigError(
            f"a model of the kind {type(model).__name__} writes no text. Use a decoder or an encoder-decoder."
        )
    return model


def _answer_opening(generation: Mapping[str, Any], config: Mapping[str, Any]) -> list[int]:
    def said(key: str) -> int | None:
        return next((source[key] for source in (generation, config) if source.get(key) is not None), None)

    start, forced = said("decoder_start_token_id"), said("forced_bos_token_id")
    start = said("bos_token_id") if start is None else start
    if start is None:
        raise CheckpointError(
            "neither generation_config.json nor config.json says which token the decoder starts with. Add "
            "decoder_start_token_id to generation_config.json: the id that every target began with in training."
        )
    return [start] if forced is None else [start, forced]


def _stop_ids(
    generation: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Tokenizer
) -> frozenset[int]:
    for source in (generation, config):
        eos = source.get("eos_token_id")
        if eos is not None:
            return frozenset(eos if isinstance(eos, list) else [eos])
    return frozenset(named_token(tokenizer, "eos_token"))


def _default_params(generation: Mapping[str, Any]) -> SamplingParams:
    if generation.get("do_sample") is False:
        generation = {**generation, "temperature": 0.0}
    given = {key: generation[key] for key in _SAMPLING_KEYS if generation.get(key) is not None}
    return SamplingParams(**given)
