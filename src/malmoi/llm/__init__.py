"""Text in, text out: what a model directory can do, in one object.

    str | messages -> ids -> Engine -> ids -> DecodeStream -> StopStrings -> str

Everything that is text lives here and in `text/`: chat format, stop strings, half syllables. The engine below
knows ids only. Read next: `llm.py` (the object), `answer.py` (ids back into text), `checkpoint.py` (`load`);
`docs/life-of-a-request.md` walks through all of it.
"""

from malmoi.llm.answer import TextStream
from malmoi.llm.checkpoint import load
from malmoi.llm.completion import Completion, Timings, TokenLogprob, Usage
from malmoi.llm.llm import LLM

__all__ = ["LLM", "Completion", "TextStream", "Timings", "TokenLogprob", "Usage", "load"]
