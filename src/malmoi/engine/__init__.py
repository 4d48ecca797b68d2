"""The engine: ids in, ids out, for many requests at once. It knows no text, no end-of-text, no chat.

Five nouns, one file each, in the order of a request's journey:

    request     what is asked (Request) and how far it has come (Generation)
    blocks      who owns which piece of the cache
    scheduler   which requests run in this step, and how many tokens of each
    runner      one unpadded forward of the model for all of them; sampling picks each next token
    engine      the loop: schedule, run, update

`Engine` is loaded on first use: the other names need no torch.
"""

from typing import TYPE_CHECKING

from malmoi.engine.params import SamplingParams
from malmoi.engine.request import Attachment, Candidate, Choice, Generation, Request

if TYPE_CHECKING:
    from malmoi.engine.engine import Engine

__all__ = ["Attachment", "Candidate", "Choice", "Engine", "Generation", "Request", "SamplingParams"]


def __getattr__(name: str) -> object:
    if name != "Engine":
        raise AttributeError(f"module 'malmoi.engine' has no attribute {name!r}")
    from malmoi.engine.engine import Engine

    return Engine
