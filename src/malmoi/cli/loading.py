"""The models of the verbs, and how many threads they get. Read next: `malmoi/llm`."""

from typing import TYPE_CHECKING

from malmoi.cli.engine import EngineSettings

if TYPE_CHECKING:
    from malmoi.llm import LLM, TextEncoder
    from malmoi.llm.transcribe import Transcriber
    from malmoi.nn.stack import Model

SMALL = 30_000_000
"""Parameters below which one thread does: the shipped model's 17.9M take 1.16 ms a token on one, 1.08 on two, and 8 on
two of a machine that is busy."""


def load_llm(model: str | None, settings: EngineSettings) -> "LLM":
    """Load `model`, or the shipped one, on as many threads as `choose_threads` says.

    Raises what `malmoi.load` raises, and what `EngineSettings.engine_options` does.
    """
    from malmoi.llm import load

    llm = load(
        model, dtype=settings.dtype, device=settings.device, engine_options=settings.engine_options()
    )
    choose_threads(llm.model, settings.threads)
    return llm


def load_any(model: str | None, settings: EngineSettings) -> "LLM | TextEncoder | Transcriber":
    """Load `model`, of whatever kind it is: one that writes text, reads it, or hears. Raises what the others raise.

    `settings` are about engines of models that write; another kind runs as its own verb runs it.
    """
    if model is None:
        return load_llm(None, settings)
    import torch

    from malmoi.models import build_model, load_config
    from malmoi.nn.audio import AudioToText
    from malmoi.nn.stack import Encoder
    from malmoi.weights.hub import resolve

    config = load_config(resolve(model))
    with torch.device("meta"):
        kind = build_model(config)
    if isinstance(kind, Encoder):
        return load_text_encoder(model)
    return load_transcriber(model) if isinstance(kind, AudioToText) else load_llm(model, settings)


def load_text_encoder(model: str) -> "TextEncoder":
    """Load the encoder `model`, as `load_llm` does. Raises what `TextEncoder.load` raises."""
    from malmoi.llm import TextEncoder

    encoder = TextEncoder.load(model)
    choose_threads(encoder.model)
    return encoder


def load_transcriber(model: str) -> "Transcriber":
    """Load the speech model `model`, as `load_llm` does. Raises what `Transcriber.load` raises."""
    from malmoi.llm.transcribe import Transcriber

    transcriber = Transcriber.load(model)
    choose_threads(transcriber.model)
    return transcriber


def choose_threads(model: "Model", num_threads: int | None = None) -> None:
    """Compute with so many threads of this process (mutates torch's setting); None: one for a small model.

    Its matrix products are too short to be shared. Threads would mostly wait for each other, and on a machine that does
    other work too, a hundred times longer than they compute.
    """
    import torch

    from malmoi.models import count_parameters

    if num_threads is None and count_parameters(model) < SMALL:
        num_threads = 1
    if num_threads is not None:
        torch.set_num_threads(num_threads)
