"""The engine: ids in, ids out, for many requests at once. It knows no text, no end-of-text, no chat.

Five nouns, one file each, in the order of a request's journey:

    request     what is asked (Request) and how far it has come (Generation)
    blocks      who owns which piece of the cache; `groups` of layers hold tables of them, `prefix` finds them again
    scheduler   which requests run in this step, and how many tokens of each; `speculate` guesses further ones
    runner      one unpadded forward of the model for all of them; sampling picks each next token, of those
                that penalties and rules leave
    engine      the loop: schedule, run, update; `async_engine`, the same behind an event loop

`Engine`, `AsyncEngine` and `DraftModel` are loaded on first use: the other names need no torch.
"""

from typing import TYPE_CHECKING

from malmoi.engine.params import SamplingParams
from malmoi.engine.request import Attachment, Candidate, Choice, Generation, Request
from malmoi.engine.rules import LogitsRule
from malmoi.engine.speculate import Drafter, PromptLookup

if TYPE_CHECKING:
    from malmoi.engine.async_engine import AsyncEngine
    from malmoi.engine.draft_model import DraftModel
    from malmoi.engine.engine import Engine

__all__ = [
    "AsyncEngine",
    "Attachment",
    "Candidate",
    "Choice",
    "DraftModel",
    "Drafter",
    "Engine",
    "Generation",
    "LogitsRule",
    "PromptLookup",
    "Request",
    "SamplingParams",
]


def __getattr__(name: str) -> object:
    if name not in ("AsyncEngine", "DraftModel", "Engine"):
        raise AttributeError(f"module 'malmoi.engine' has no attribute {name!r}")
    from malmoi.engine.async_engine import AsyncEngine
    from malmoi.engine.draft_model import DraftModel
    from malmoi.engine.engine import Engine

    return {"AsyncEngine": AsyncEngine, "DraftModel": DraftModel, "Engine": Engine}[name]
