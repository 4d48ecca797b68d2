"""Malmoi (말모이): a Korean-first language-model stack in one readable package.

Public names only, each loaded from its home on first use, so that `import malmoi` costs nothing and
loads no torch. Read next: `malmoi.llm` (text in, text out).

>>> import malmoi
>>> llm = malmoi.load()                                             # doctest: +SKIP
>>> llm.generate("한글은", malmoi.SamplingParams(max_tokens=32)).text  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from malmoi.core.errors import MalmoiError as MalmoiError
    from malmoi.engine import Engine as Engine
    from malmoi.engine import SamplingParams as SamplingParams
    from malmoi.llm import LLM as LLM
    from malmoi.llm import AsyncLLM as AsyncLLM
    from malmoi.llm import Completion as Completion
    from malmoi.llm import TextEncoder as TextEncoder
    from malmoi.llm import load as load
    from malmoi.models import load_model as load_model
    from malmoi.models import save_model as save_model
    from malmoi.text.tokenizer import Tokenizer as Tokenizer
    from malmoi.weights.default import default_model as default_model

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "AsyncLLM",
    "Completion",
    "Engine",
    "MalmoiError",
    "SamplingParams",
    "TextEncoder",
    "Tokenizer",
    "default_model",
    "load",
    "load_model",
    "save_model",
]

_HOME = {
    "LLM": "malmoi.llm",
    "AsyncLLM": "malmoi.llm",
    "Completion": "malmoi.llm",
    "Engine": "malmoi.engine",
    "MalmoiError": "malmoi.core.errors",
    "SamplingParams": "malmoi.engine",
    "TextEncoder": "malmoi.llm",
    "Tokenizer": "malmoi.text.tokenizer",
    "default_model": "malmoi.weights.default",
    "load": "malmoi.llm",
    "load_model": "malmoi.models",
    "save_model": "malmoi.models",
}


def __getattr__(name: str) -> object:
    """Load a public name from its home (PEP 562); the next use finds it without coming here."""
    if name not in _HOME:
        raise AttributeError(f"module 'malmoi' has no attribute {name!r}. Public names: {', '.join(__all__)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
