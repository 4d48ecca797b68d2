"""The end of a run: an ordinary Hugging Face directory, and the run that made it beside the weights."""

from pathlib import Path

import torch

from malmoi.core.config import to_mapping
from malmoi.core.errors import CheckpointError
from malmoi.core.files import write_json
from malmoi.models import save_model
from malmoi.train.config import RunConfig
from malmoi.train.start import Start


def export_model(start: Start, directory: Path, config: RunConfig) -> None:
    """Write weights in bf16, config, tokenizer, chat template, generation defaults and `malmoi.json`.

    `AutoModelForCausalLM`, `AutoTokenizer` and `malmoi.load` all read the result; that of an encoder, which has no
    chat template, `AutoModel` and `malmoi.TextEncoder.load`. Each file is replaced whole.
    Raises CheckpointError, TokenizerError or TemplateError if the directory cannot be written.
    """
    save_model(start.model, directory, dtype=torch.bfloat16)
    start.tokenizer.save(directory)
    if start.template is not None:
        start.template.save(directory)
    if start.generation is not None:
        write_json(directory / "generation_config.json", dict(start.generation), error=CheckpointError)
    config.objective.complete(directory, start.model)
    write_json(directory / "malmoi.json", {"run": to_mapping(config)}, error=CheckpointError)
