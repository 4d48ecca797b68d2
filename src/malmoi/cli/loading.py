"""The models of the verbs, how many threads they get, and how much memory they would take. Read next: `malmoi/llm`."""

from typing import TYPE_CHECKING, Any

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

    llm = load(model, dtype=settings.dtype, device=settings.device, engine_options=settings.engine_options())
    choose_threads(llm.model, settings.threads)
    return llm


def load_any(model: str | None, settings: EngineSettings) -> "LLM | TextEncoder | Transcriber":
    """Load `model`, of whatever kind it is: one that writes text, reads it, or hears. Raises what the others raise.

    Another kind than the first has no engine with a cache, so of `settings` only what is about weights and threads
    concerns it.
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
        return load_text_encoder(model, settings)
    return load_transcriber(model, settings) if isinstance(kind, AudioToText) else load_llm(model, settings)


def load_text_encoder(model: str, settings: EngineSettings | None = None) -> "TextEncoder":
    """Load the encoder `model`, as `load_llm` does. Raises what `TextEncoder.load` raises."""
    from malmoi.llm import TextEncoder

    settings = settings or EngineSettings()
    encoder = TextEncoder.load(model, **_precision(settings))
    choose_threads(encoder.model, settings.threads)
    return encoder


def load_transcriber(model: str, settings: EngineSettings | None = None) -> "Transcriber":
    """Load the speech model `model`, as `load_llm` does. Raises what `Transcriber.load` raises."""
    from malmoi.llm.transcribe import Transcriber

    settings = settings or EngineSettings()
    transcriber = Transcriber.load(model, **_precision(settings))
    choose_threads(transcriber.model, settings.threads)
    return transcriber


def _precision(settings: EngineSettings) -> dict[str, Any]:
    """What a loader is told of it: nothing leaves its own."""
    return {} if settings.dtype is None else {"dtype": settings.dtype}


def memory_of(model: str | None, settings: EngineSettings) -> int:
    """How many bytes `load_any` would take for weights and cache, found without loading anything.

    What a step needs besides comes and goes. Raises what `load_any` raises of a directory that is none.
    """
    import torch

    from malmoi.budget import on_paper, weight_bytes
    from malmoi.engine.engine import Engine
    from malmoi.models import load_config
    from malmoi.models.registry import family_of
    from malmoi.nn.quantized import PRECISIONS, Quantization
    from malmoi.nn.stack import Decoder, Encoder, EncoderDecoder
    from malmoi.weights.default import default_model
    from malmoi.weights.files import read_tensors
    from malmoi.weights.hub import resolve

    directory = resolve(default_model() if model is None else model)
    stored = read_tensors(directory)  # mapped, so nothing is read
    config = load_config(directory)
    config = family_of(config).settle(config, stored)
    floats = [tensor for tensor in stored.values() if tensor.is_floating_point()]
    of_file = max(floats, key=lambda tensor: tensor.nbytes).dtype if floats else torch.float32
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}.get(settings.dtype or "", of_file)
    paper = on_paper(config, dtype)
    if isinstance(paper, Encoder) and settings.dtype is None:
        return weight_bytes(paper.float())
    if settings.dtype is None:
        weights = sum(tensor.nbytes for tensor in stored.values())
    else:
        is_rounded = settings.dtype in PRECISIONS
        weights = weight_bytes(paper, Quantization(precision=settings.dtype) if is_rounded else None)
    if not isinstance(paper, Decoder | EncoderDecoder) or not getattr(paper, "has_token_source", True):
        return weights
    speculation = settings.speculation if settings.speculation not in ("off", "lookup", "auto") else None
    options = EngineSettings(
        cache_bytes=settings.cache_bytes, cache_dtype=settings.cache_dtype
    ).engine_options()
    engine = Engine(paper, **options)
    guessing = 0 if speculation is None else memory_of(speculation, EngineSettings(cache_bytes=2**28))
    return weights + engine.num_bytes - weight_bytes(paper) + guessing


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
