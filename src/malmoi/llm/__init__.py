"""Text in, text out: what a model directory can do, in one object.

    str | messages -> ids -> Engine -> ids -> DecodeStream -> StopStrings -> str

Everything that is text lives here and in `text/`: chat format, stop strings, half syllables. The engine below
knows ids only. Read next: `llm.py` (the object), `answer.py` (ids back into text), `checkpoint.py` (`load`);
`docs/life-of-a-request.md` walks through all of it. `text_encoder.py` is the other object: texts into vectors, labels.
"""

from malmoi.llm.answer import TextStream
from malmoi.llm.checkpoint import load
from malmoi.llm.completion import Completion, Timings, TokenLogprob, Usage
from malmoi.llm.llm import LLM
from malmoi.llm.text_encoder import Classification, TextEncoder

__all__ = [
    "LLM",
    "Classification",
    "Completion",
    "TextEncoder",
    "TextStream",
    "Timings",
    "TokenLogprob",
    "Usage",
    "load",
]
