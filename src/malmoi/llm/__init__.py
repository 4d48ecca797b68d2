"""Text in, text out: what a model directory can do, in one object.

    str | messages -> ids -> Engine -> ids -> DecodeStream -> StopStrings -> str

Everything that is text lives here and in `text/`: chat format, stop strings, half syllables. The engine below
knows ids only. Read next: `llm.py` (the object), `request_builder.py` (text into ids), `answer.py` (ids back into
text), `checkpoint.py` (`load`); `docs/life-of-a-request.md` walks through all of it. `async_llm.py` is the same behind
an event loop, `text_encoder.py` the other object: texts into vectors, labels.
"""

from malmoi.llm.async_llm import AsyncLLM, AsyncTextStream
from malmoi.llm.async_text_encoder import AsyncTextEncoder
from malmoi.llm.checkpoint import load
from malmoi.llm.completion import Completion, Timings, TokenLogprob, Usage
from malmoi.llm.llm import LLM
from malmoi.llm.stream import TextStream
from malmoi.llm.text_encoder import Classification, TextEncoder

__all__ = [
    "LLM",
    "AsyncLLM",
    "AsyncTextEncoder",
    "AsyncTextStream",
    "Classification",
    "Completion",
    "TextEncoder",
    "TextStream",
    "Timings",
    "TokenLogprob",
    "Usage",
    "load",
]
