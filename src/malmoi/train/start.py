"""Where a run starts: a model, its tokenizer, and how it will be talked to.

`open_start` makes what `export.py` writes back at the end; between them lies `loop.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.core.files import read_json
from malmoi.models import build_model, initialise, load_model
from malmoi.nn.stack import Decoder, Stack
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.weights.hub import resolve


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a checkpoint directory holds. The model is in fp32, as training wants it.

    `generation` is the content of `generation_config.json`: ids that end an answer, sampling defaults. An encoder
    has neither that nor a chat template.
    """

    model: Stack
    tokenizer: Tokenizer
    template: ChatTemplate | None = None
    generation: Mapping[str, object] | None = None


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
    shape = config.objective.shape(
        start.depth, vocab_size=tokenizer.vocab_size, max_positions=start.max_positions
    )
    model = config.objective.fit(initialise(build_model(shape), seed=config.seed), seed=config.seed)
    return _start(model, tokenizer, directory=None)


def _continued(config: RunConfig, start: FromCheckpoint) -> Start:
    directory = resolve(start.path)
    model = config.objective.fit(load_model(directory), seed=config.seed).float()
    tokenizer = Tokenizer.load(config.tokenizer or directory)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"the tokenizer {config.tokenizer or directory} has {tokenizer.vocab_size} tokens, but the model "
            f"{directory} has only {model.config.vocab_size} rows for them. Use the tokenizer of that model."
        )
    return _start(model, tokenizer, directory=directory)


def _start(model: Stack, tokenizer: Tokenizer, *, directory: Path | None) -> Start:
    """A model, and, if it can talk, how one talks to it: as `directory` says where it does."""
    if not isinstance(model, Decoder):
        return Start(model=model, tokenizer=tokenizer)
    template = directory if directory is not None and _has_template(directory) else None
    generation = None if directory is None else directory / "generation_config.json"
    return Start(
        model=model,
        tokenizer=tokenizer,
        template=ChatTemplate.default() if template is None else ChatTemplate.load(template),
        generation=_generation_defaults(tokenizer)
        if generation is None or not generation.exists()
        else read_json(generation, error=CheckpointError),
    )


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
