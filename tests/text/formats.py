"""The chat formats that the tests render, and a tokenizer that has the control tokens of all of them."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
]  # fmt: skip
NOT_SPECIAL = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
    "<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>",
]  # fmt: skip
"""Tokens that Qwen3 and DeepSeek match like special ones, but do not call special."""

CONTROL = re.compile("|".join(map(re.escape, SPECIAL + NOT_SPECIAL)))

NAMED_TOKENS = {
    "chatml": {},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "mistral": {"bos_token": "<s>", "eos_token": "</s>"},
    "gemma": {"bos_token": "<bos>"},
    "qwen3": {},
    "deepseek": {"bos_token": "<｜begin▁of▁sentence｜>"},
}
FORMATS = list(NAMED_TOKENS)


@cache
def backend() -> tokenizers.Tokenizer:
    corpus = ["나는 학교에 간다. 너는 학교에서 온다.\nthe user and the assistant\n\n말모이 <b>굵게</b>"] * 4
    made = tokenizers.Tokenizer.from_str(
        train_bpe(corpus, vocab_size=320, special_tokens=SPECIAL).backend.to_str()
    )
    made.add_tokens([AddedToken(token, normalized=False, special=False) for token in NOT_SPECIAL])
    return made


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(backend().to_str())


def source(name: str) -> str:
    return (Path(__file__).parent / "templates" / f"{name}.jinja").read_text("utf-8")


@cache
def template(name: str) -> ChatTemplate:
    return ChatTemplate(source(name), special_tokens=NAMED_TOKENS[name])


@cache
def theirs(name: str) -> PreTrainedTokenizerFast:
    """The reference: `transformers` with the same template and the same vocabulary."""
    return PreTrainedTokenizerFast(
        tokenizer_object=backend(), chat_template=source(name), **NAMED_TOKENS[name]
    )


def taught(ids: list[int], loss_mask: list[bool]) -> list[str]:
    """The text of each stretch of ids that the mask covers."""
    stretches: list[list[int]] = [[]]
    for token_id, is_taught in zip(ids, loss_mask, strict=True):
        if is_taught:
            stretches[-1].append(token_id)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer().decode(stretch) for stretch in stretches if stretch]


def added_ids(ids: list[int], tokens: list[str]) -> list[int]:
    """The ids of `tokens` among `ids`, in order."""
    wanted = {tokenizer().token_id(token) for token in tokens}
    return [token_id for token_id in ids if token_id in wanted]


def controls(name: str) -> list[str]:
    """What may not be written by what a user says in this format."""
    return SPECIAL + [token for token in NOT_SPECIAL if token in source(name)]


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """An assistant message that calls a function."""
    function = {"name": name, "arguments": arguments}
    return assistant("", tool_calls=[{"id": "abcdefghi", "type": "function", "function": function}])


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": "abcdefghi"}


def weather_tool(description: str) -> dict[str, Any]:
    city = {"type": "string", "description": description}
    parameters = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    return {
        "type": "function",
        "function": {"name": "weather", "description": description, "parameters": parameters},
    }
