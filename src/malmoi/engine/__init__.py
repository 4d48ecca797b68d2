"""The engine: ids in, ids out, for many requests at once. It knows no text, no end-of-text, no chat.

Five nouns, one file each, in the order of a request's journey:

    request     what is asked (Request) and how far it has come (Generation)
    blocks      who owns which piece of the cache; `groups` of layers hold tables of them, `prefix` finds them again,
                and `holdings` are what each generation has of all that
    scheduler   which requests run in this step, and how many tokens of each; `admission` refuses what never fits,
                `speculate` guesses further tokens, a beam `search` decides who goes on
    runner      one unpadded forward of the model for all of them, on what `inputs` lays out; sampling picks each
                next token, of those that penalties and rules leave
    engine      the loop: schedule, run, update; `async_engine`, the same behind an event loop

Where nothing is generated, `pool_engine` is all of it: a `PoolRequest` is read in one step, and gets what it asks of
the model's states. What needs torch is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from malmoi.engine.params import SamplingParams
from malmoi.engine.request import Attachment, Candidate, Choice, Generation, Request
from malmoi.engine.rules import LogitsRule
from malmoi.engine.speculate import Drafter, PromptLookup

if TYPE_CHECKING:
    from malmoi.engine.async_engine import AsyncEngine, AsyncPoolEngine
    from malmoi.engine.draft_model import DraftModel
    from malmoi.engine.engine import Engine
    from malmoi.engine.pool_engine import PoolEngine
    from malmoi.engine.pool_request import Pooled, PoolRequest

__all__ = [
    "AsyncEngine",
    "AsyncPoolEngine",
    "Attachment",
    "Candidate",
    "Choice",
    "DraftModel",
    "Drafter",
    "Engine",
    "Generation",
    "LogitsRule",
    "PoolEngine",
    "PoolRequest",
    "Pooled",
    "PromptLookup",
    "Request",
    "SamplingParams",
]


_HOME = {
    "AsyncEngine": "async_engine",
    "AsyncPoolEngine": "async_engine",
    "DraftModel": "draft_model",
    "Engine": "engine",
    "PoolEngine": "pool_engine",
    "PoolRequest": "pool_request",
    "Pooled": "pool_request",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'malmoi.engine' has no attribute {name!r}")
    return getattr(import_module(f"malmoi.engine.{_HOME[name]}"), name)
