"""Text in, text out: what a model directory can do, in one object.

    Prompt -> ids -> Engine -> ids -> bytes -> thought, text, calls

Everything that is text lives here and in `text/`: chat format, stop strings, half syllables. The engine below
knows ids only. Read next: `llm.py` (the object), `request_builder.py` (text into ids), `answer.py` (ids back into
text), `checkpoint.py` (`load`); `docs/life-of-a-request.md` walks through all of it. `async_llm.py` is the same behind
an event loop, `text_encoder.py` the other object: texts into vectors, labels.
"""

from malmoi.llm.abilities import Abilities
from malmoi.llm.answer import Delta
from malmoi.llm.async_llm import AsyncLLM, AsyncTextStream
from malmoi.llm.async_text_encoder import AsyncTextEncoder
from malmoi.llm.checkpoint import load
from malmoi.llm.completion import CallDelta, Completion, Timings, TokenLogprob, ToolCall, Usage
from malmoi.llm.llm import LLM
from malmoi.llm.prompt import ChatPrompt, Infill
from malmoi.llm.stream import DeltaStream, TextStream
from malmoi.llm.text_encoder import Classification, TextEncoder

__all__ = [
    "LLM",
    "Abilities",
    "AsyncLLM",
    "AsyncTextEncoder",
    "AsyncTextStream",
    "CallDelta",
    "ChatPrompt",
    "Classification",
    "Completion",
    "Delta",
    "DeltaStream",
    "Infill",
    "TextEncoder",
    "TextStream",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "load",
]
