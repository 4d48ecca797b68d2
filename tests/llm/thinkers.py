"""Models that think and call, for the tests of both: scripts and random weights behind the chat formats of families."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from malmoi.llm import LLM, ChatPrompt
from malmoi.testing.models import ScriptedModel, tiny_llama
from malmoi.testing.tokenizer import SPECIAL_TOKENS, ByteTokenizer
from malmoi.text.chat import ChatTemplate

TEMPLATES = Path(__file__).parents[1] / "text" / "templates"
THINK = ("<think>", "</think>")
HELLO = [{"role": "user", "content": "안녕?"}]


def source(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text("utf-8")


@cache
def tokenizer(*added: str) -> ByteTokenizer:
    """One id a byte, and one for each of `added`."""
    return ByteTokenizer([*SPECIAL_TOKENS, *added])


def talker(model: Any, template: str | ChatTemplate, *added: str) -> LLM:
    """An LLM with a chat format, whose text ends at <|endoftext|> and <|im_end|>."""
    if isinstance(template, str):
        template = ChatTemplate(template)
    return LLM(model, tokenizer(*added), template=template, stop_ids=[0, 2])


def says(text: str, prompt: Any, template: str | ChatTemplate, *added: str, end: Sequence[int] = (2,)) -> LLM:
    """An LLM that answers one prompt with `text`, in which the names of `added` tokens are those tokens."""
    made = tokenizer(*added)
    listening = talker(tiny_llama(vocab_size=made.vocab_size), template, *added)
    if not isinstance(prompt, ChatPrompt):
        prompt = ChatPrompt(messages=prompt)
    script = [*made.encode_special(text), *end]
    num_prompt = len(listening.prompt_ids(prompt))
    return talker(ScriptedModel(script, num_prompt=num_prompt, vocab_size=made.vocab_size), template, *added)


def babbles(template: str | ChatTemplate, *added: str, seed: int = 0, max_positions: int = 2048) -> LLM:
    """An LLM of random weights."""
    made = tokenizer(*added)
    return talker(
        tiny_llama(vocab_size=made.vocab_size, max_positions=max_positions, seed=seed), template, *added
    )
