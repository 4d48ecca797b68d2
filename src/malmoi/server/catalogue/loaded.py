"""A model that was loaded, of whatever kind: what serves it, what it does, and how much memory it takes.

Place in the flow: `local.py` loads one. Read next: `local.py`.
"""

from collections.abc import Callable
from typing import Any

from malmoi.budget import weight_bytes
from malmoi.llm import LLM, AsyncTextEncoder, TextEncoder
from malmoi.llm.transcribe import AsyncTranscriber, Transcriber
from malmoi.models import count_parameters
from malmoi.server.catalogue.entry import as_told
from malmoi.server.catalogue.measured import MeasuredLLM, Measures

Loaded = LLM | TextEncoder | Transcriber
Load = Callable[[str | None], Loaded]
"""From a directory or a hub id to a model of any kind; None: the one that ships with Malmoi."""
LocalServing = MeasuredLLM | AsyncTextEncoder | AsyncTranscriber


def served(loaded: Loaded, measures: Measures | None) -> LocalServing:
    """What answers requests with the model; `measures` go on with what it writes."""
    match loaded:
        case LLM():
            return MeasuredLLM(loaded, measures)
        case TextEncoder():
            return AsyncTextEncoder(loaded)
        case Transcriber():
            return AsyncTranscriber(loaded)


def kind_of(loaded: Loaded) -> str:
    """What it does, in a word."""
    match loaded:
        case LLM():
            return "writes"
        case TextEncoder():
            return "reads"
        case Transcriber():
            return "hears"


def bytes_of(loaded: Loaded) -> int:
    """Memory that it takes: its weights, and the cache of its engine if it has one."""
    return loaded.engine.num_bytes if isinstance(loaded, LLM) else weight_bytes(loaded.model)


def about(loaded: Loaded) -> dict[str, Any]:
    """What it is, as `/v1/models` tells it."""
    can = {"abilities": as_told(loaded.abilities)} if isinstance(loaded, LLM) else {}
    return {
        "context_length": loaded.model.max_positions,
        "parameters": count_parameters(loaded.model),
        "vocab_size": loaded.tokenizer.vocab_size,
        **can,
    }
