"""Where a run starts: a model, its tokenizer, and how it will be talked to.

`open_start` makes what `export.py` writes back at the end; between them lies `loop.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.core.files import read_json
from malmoi.models import build_model, initialise, llama, load_model, require_kind
from malmoi.nn.linear import Linear
from malmoi.nn.stack import Decoder, Model
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.weights.hub import resolve


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a checkpoint directory holds. The model is in fp32, as training wants it.

    `generation` is the content of `generation_config.json`: ids that end an answer, sampling defaults.
    """

    model: Decoder
    tokenizer: Tokenizer
    template: ChatTemplate
    generation: Mapping[str, object]


def open_start(config: RunConfig) -> Start:
    """Build or load what `config.start` names.

    Raises ConfigError if tokenizer, model and context length do not fit together; what is missing or broken
    raises TokenizerError, CheckpointError or HubError.
    """
    start = (
        _new(config, config.start)
        if isinstance(config.start, FromScratch)
        else _continued(config, config.start)
    )
    if config.context_length > start.model.max_positions:
        raise ConfigError(
            f"context_length={config.context_length} exceeds the {start.model.max_positions} positions that the "
            "model has. Lower context_length, or raise start.max_positions of a model from scratch."
        )
    return start


def _new(config: RunConfig, start: FromScratch) -> Start:
    assert config.tokenizer is not None, "RunConfig refuses a model from scratch without a tokenizer"
    tokenizer = Tokenizer.load(config.tokenizer)
    shape = llama.sized(start.depth, vocab_size=tokenizer.vocab_size, max_positions=start.max_positions)
    return Start(
        model=initialise(_decoder(build_model(shape)), seed=config.seed),
        tokenizer=tokenizer,
        template=ChatTemplate.default(),
        generation=_generation_defaults(tokenizer),
    )


def _continued(config: RunConfig, start: FromCheckpoint) -> Start:
    directory = resolve(start.path)
    model = _decoder(load_model(directory)).float()
    tokenizer = Tokenizer.load(config.tokenizer or directory)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"the tokenizer {config.tokenizer or directory} has {tokenizer.vocab_size} tokens, but the model "
            f"{directory} has only {model.config.vocab_size} rows for them. Use the tokenizer of that model."
        )
    generation = directory / "generation_config.json"
    return Start(
        model=model,
        tokenizer=tokenizer,
        template=ChatTemplate.load(directory) if _has_template(directory) else ChatTemplate.default(),
        generation=read_json(generation, error=CheckpointError)
        if generation.exists()
        else _generation_defaults(tokenizer),
    )


def _decoder(model: Model) -> Decoder:
    """The model as the chunked loss takes it: a decoder whose head is one matrix."""
    decoder = require_kind(model, Decoder, for_what="language-model training")
    if not isinstance(decoder.head, Linear):
        raise ConfigError(
            f"the head of this model is a {type(decoder.head).__name__}, not one matrix (Gemma 2 caps its logits), and "
            "the chunked loss knows only matrices. Train a model without a cap on its logits."
        )
    return decoder


def _has_template(directory: Path) -> bool:
    if (directory / "chat_template.jinja").exists():
        return True
    config = directory / "tokenizer_config.json"
    return config.exists() and "chat_template" in read_json(config, error=CheckpointError)


def _generation_defaults(tokenizer: Tokenizer) -> dict[str, object]:
    """An answer ends with its turn or with the document; the sampling suits small models, which repeat themselves."""
    special = tokenizer.special_tokens
    ends = [special[token] for token in ("<|im_end|>", "<|endoftext|>") if token in special]
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
    return {"eos_token_id": ends, **sampling}
