"""A chat's body as what a model is asked: `prompt_of`, `wish_of` and `params_of`.

    messages, tools, prefix -> PROMPT OF -> ChatPrompt     reasoning_effort, ... -> WISH OF -> thinking.py
    temperature, logprobs, response_format, ...  -> PARAMS OF -> SamplingParams

Chat formats pass over what they do not know, so every key of a message is looked at here. Place in the flow: `chat.py`
and `server/render.py` read their bodies with it. Read next: `malmoi/llm/prompt.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from malmoi.engine import SamplingParams
from malmoi.llm.prompt import ChatPrompt
from malmoi.server import sampling
from malmoi.server.errors import ServerError
from malmoi.server.openai.chat_bodies import AllowedTools, ChatBody, Named, NamedTool
from malmoi.server.sampling import form_of, likelihoods
from malmoi.server.thinking import Wish
from malmoi.server.tools import function, functions, with_tools

_KEYS = {
    "role", "content", "name", "reasoning_content", "reasoning", "prefix", "tool_calls", "tool_call_id",
    "function_call", "refusal",
}  # fmt: skip
_ROLES = {"developer": "system", "function": "tool"}
"""OpenAI's other names of two roles."""
_OF_FILES = {"image", "images", "image_url", "audio", "input_audio", "video", "videos"}
"""Keys that `llm/parts.py` refuses, with what to do."""


def prompt_of(body: ChatBody) -> ChatPrompt:
    """What is asked, but for thinking, which depends on who answers. Raises ServerError for what contradicts itself.

    >>> said = [{"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "네", "prefix": True}]
    >>> prompt = prompt_of(ChatBody.model_validate({"messages": said}))
    >>> prompt.is_continued, prompt.messages[-1]
    (True, {'role': 'assistant', 'content': '네'})
    """
    is_continued = is_gone_on_with(body.messages, is_asked=body.continue_final_message)
    if body.add_generation_prompt is not None and body.add_generation_prompt == is_continued:
        raise ServerError(
            "add_generation_prompt opens a new message, continue_final_message goes on with the last one. Give one.",
            param="add_generation_prompt",
        )
    prompt = ChatPrompt(
        messages=messages_of(body.messages), is_continued=is_continued, beginning=tuple(body.beginning)
    )
    if body.functions or body.function_call is not None:
        return _with_functions(prompt, body)
    choice, allowed = "auto", None
    match body.tool_choice:
        case str():
            choice = body.tool_choice
        case NamedTool():
            choice = body.tool_choice.function.name
        case AllowedTools():
            some = body.tool_choice.allowed_tools
            choice, allowed = some.mode, [one.function.name for one in some.tools]
    return with_tools(
        prompt, functions(body.tools), choice=choice, allowed=allowed, is_parallel=body.parallel_tool_calls
    )


def wish_of(body: ChatBody) -> Wish | None:
    """What the body says of thinking. Raises ServerError for two things that contradict each other.

    >>> wish_of(ChatBody(messages=[], thinking_budget=64))
    Wish(param='thinking_budget', thinks=None, budget=64)
    """
    effort, budget = body.reasoning_effort, body.thinking_budget
    switch = None if body.chat_template_kwargs is None else body.chat_template_kwargs.enable_thinking
    is_twice = effort is not None and (budget is not None or switch is not None)
    if is_twice or (budget is not None and switch is not None and switch != (budget > 0)):
        raise ServerError(
            "reasoning_effort, thinking_budget and enable_thinking all say how much to think. Give one of them, or a "
            "budget with enable_thinking=true.",
            param="chat_template_kwargs" if effort is None else "reasoning_effort",
        )
    if effort is not None:
        return Wish.of_effort(effort)
    if budget is not None:
        return Wish(param="thinking_budget", thinks=switch, budget=budget)
    return None if switch is None else Wish(param="chat_template_kwargs", thinks=switch)


def params_of(body: ChatBody, defaults: SamplingParams) -> SamplingParams:
    """What the body asks for, as `sampling.params_of` with what only chats have, and raises as it does.

    >>> params_of(ChatBody(messages=[], logprobs=True, max_completion_tokens=5), SamplingParams()).max_tokens
    5
    """
    given = likelihoods(body.top_logprobs, is_asked=body.logprobs)
    if body.max_completion_tokens is not None:
        if body.max_tokens is not None:
            raise ServerError(
                "max_tokens and max_completion_tokens are one parameter. Give one.", param="max_tokens"
            )
        given["max_tokens"] = body.max_completion_tokens
    if (form := body.response_format) is not None:
        given |= form_of(form.type, None if form.json_schema is None else form.json_schema.schema_)
    return sampling.params_of(body, defaults, **given)


def messages_of(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages as chat formats read them. Raises ServerError for a key that nobody reads."""
    return [_message(index, message) for index, message in enumerate(messages)]


def _message(index: int, message: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in message.items() if value is not None and value != []}
    for key in sorted(given.keys() - _KEYS - _OF_FILES):
        raise ServerError(
            f"message {index} has the key {key!r:.80}, which is not one of {', '.join(sorted(_KEYS))}. Leave it out.",
            param="messages",
        )
    if not isinstance(given.pop("prefix", False), bool):
        raise ServerError(f"prefix of message {index} is neither true nor false. Give one.", param="messages")
    if "refusal" in given:  # what OpenAI's models say where they will not answer
        if given.get("content"):
            raise _both(index, "content", "refusal")
        given["content"] = given.pop("refusal")
    if "function_call" in given:  # the older form of a call
        if "tool_calls" in given:
            raise _both(index, "tool_calls", "function_call")
        given["tool_calls"] = [{"id": "", "type": "function", "function": given.pop("function_call")}]
    if "tool_calls" in given:
        _check_calls(index, given["tool_calls"])
    if isinstance(role := given.get("role"), str):
        given["role"] = _ROLES.get(role, role)
    return given


def _both(index: int, one: str, other: str) -> ServerError:
    return ServerError(
        f"message {index} has both {one} and {other}, and one of them would be lost. Give one.",
        param="messages",
    )


def _check_calls(index: int, calls: object) -> None:
    for call in calls if isinstance(calls, list) else [calls]:
        match call:
            case {"function": {"name": str(), "arguments": str()}}:
                continue
        raise ServerError(
            f"message {index} has a call that is not one. Write it like "
            '{"id": "...", "type": "function", "function": {"name": "...", "arguments": "{}"}}.',
            param="messages",
        )


def is_gone_on_with(messages: Sequence[dict[str, Any]], *, is_asked: bool) -> bool:
    """Whether the last message is gone on with: its `prefix` says so, or the body has asked for it.

    Raises ServerError for a prefix elsewhere, and for what is not the assistant's.

    >>> is_gone_on_with([{"role": "assistant", "content": "네", "prefix": True}], is_asked=False)
    True
    """
    *others, last = messages or [{}]
    if any(one.get("prefix") for one in others):
        raise ServerError("prefix is for the last message, which is gone on with.", param="messages")
    is_continued = is_asked or bool(last.get("prefix"))
    if is_continued and last.get("role") != "assistant":
        raise ServerError(
            "only the assistant's message is gone on with, and the last is another's. Leave out prefix and "
            "continue_final_message, or end with what it says.",
            param="continue_final_message" if is_asked else "messages",
        )
    return is_continued


def _with_functions(prompt: ChatPrompt, body: ChatBody) -> ChatPrompt:
    """The older form, in which one function is called at a time."""
    if body.tools or body.tool_choice is not None:
        raise ServerError("functions is the older form of tools. Give one of them.", param="functions")
    call = body.function_call
    return with_tools(
        prompt,
        [function(one.name, one.description, one.parameters, is_strict=one.strict) for one in body.functions],
        choice=call.name if isinstance(call, Named) else call or "auto",
        is_parallel=False,
        params=("functions", "function_call"),
    )
