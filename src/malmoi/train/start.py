"""Where a run starts: a model, its tokenizer, and how it will be talked to.

`open_start` makes what `export.py` writes back at the end; between them lies `loop.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.core.files import read_json
from malmoi.models import build_model, initialise, load_model
from malmoi.nn.quantized import quantization_of
from malmoi.nn.stack import Decoder
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.train.objective import Learner
from malmoi.weights.hub import resolve


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a checkpoint directory holds. The model is in fp32, as training wants it.

    `generation` is the content of `generation_config.json`: ids that end an answer, sampling defaults. An encoder
    has neither that nor a chat template, an encoder-decoder no template.
    """

    model: Learner
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
    num_added = config.objective.num_added(start.tokenizer)
    if config.context_length + num_added > start.model.max_positions:
        frame = f", with {num_added} more for what frames a text," if num_added else ""
        raise ConfigError(
            f"context_length={config.context_length}{frame} exceeds the {start.model.max_positions} positions that "
            "the model has. Lower context_length, or raise start.max_positions of a model from scratch."
        )
    return start


def _new(config: RunConfig, start: FromScratch) -> Start:
    assert config.tokenizer is not None, "RunConfig refuses a model from scratch without a tokenizer"
    tokenizer = Tokenizer.load(config.tokenizer)
    shape = config.objective.shape(
        start.depth, vocab_size=tokenizer.vocab_size, max_positions=start.max_positions
    )
    model = config.objective.fit(initialise(build_model(shape), seed=config.seed), seed=config.seed)
    return _start(config, model, tokenizer, directory=None)


def _continued(config: RunConfig, start: FromCheckpoint) -> Start:
    directory = resolve(start.path)
    loaded = load_model(directory)
    if quantization_of(loaded) is not None:
        raise ConfigError(
            f"the weights of {directory} are quantised: rounded numbers get no gradient. Train the model that it was "
            "made from, and quantize what comes out."
        )
    model = config.objective.fit(loaded, seed=config.seed).float()
    tokenizer = Tokenizer.load(config.tokenizer or directory)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"the tokenizer {config.tokenizer or directory} has {tokenizer.vocab_size} tokens, but the model "
            f"{directory} has only {model.config.vocab_size} rows for them. Use the tokenizer of that model."
        )
    return _start(config, model, tokenizer, directory=directory)


def _start(config: RunConfig, model: Learner, tokenizer: Tokenizer, *, directory: Path | None) -> Start:
    """A model, and, if it can talk, how one talks to it: as `directory` says where it does."""
    template = None
    if isinstance(model, Decoder):
        template = ChatTemplate.default()
        if directory is not None and _has_template(directory):
            template = ChatTemplate.load(directory)
    file = None if directory is None else directory / "generation_config.json"
    said = None if file is None or not file.exists() else read_json(file, error=CheckpointError)
    generation = config.objective.generation(tokenizer, said)
    return Start(model=model, tokenizer=tokenizer, template=template, generation=generation)


def _has_template(directory: Path) -> bool:
    if (directory / "chat_template.jinja").exists():
        return True
    config = directory / "tokenizer_config.json"
    return config.exists() and "chat_template" in read_json(config, error=CheckpointError)
