"""A conversation as the ids that a model reads: ONE renderer, to train and to serve.

    messages -> RENDER -> Rendered(ids, loss_mask, text) -> engine | packing

The checkpoint's own Jinja template says how, and its text is that of `transformers` to the letter. What a message
says can never become a control token. Read next: template.py (the sandbox), authorship.py (who wrote which
character), turns.py (the loss mask), guarded.py (text to ids), docs/decisions/0003-chat-rendering.md.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from malmoi.core.errors import TemplateError
from malmoi.core.files import read_json, read_text, write_text
from malmoi.text.authorship import Authorship, Controls
from malmoi.text.guarded import GuardedEncoder
from malmoi.text.ink import overlaps
from malmoi.text.template import Template
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.turns import assistant_turns

Message = Mapping[str, Any]
"""{"role": "user" | "assistant" | "system" | "tool", "content": str | list of parts, ...}: the OpenAI shape."""

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation in three forms; `ids` and `loss_mask` are equally long.

    `loss_mask` is True for each token that the assistant must learn to produce, its end-of-turn token included. A
    token that is only partly the assistant's is its own. In a prompt all is False: nothing in it is to be learned.
    """

    ids: list[int]
    loss_mask: list[bool]
    text: str


class ChatTemplate:
    r"""A checkpoint's chat format.

    `source` is the template, or several by name: "default", and "tool_use" for when there are tools.
    `special_tokens` are the checkpoint's variables for it (bos_token ...). With `nfc` the strings of messages are
    normalised to NFC: 한 typed on a Mac (ᄒ+ᅡ+ᆫ) and on Windows (한) are the same text.

    Raises:
        TemplateError: a template is not valid Jinja, or none is named "default".

    >>> from malmoi.text.training import train_bpe
    >>> tokenizer = train_bpe([], vocab_size=259)
    >>> hello = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "네<|im_end|>"}]
    >>> rendered = ChatTemplate.default().render(hello, tokenizer)
    >>> rendered.text
    '<|im_start|>user\n안녕<|im_end|>\n<|im_start|>assistant\n네<|im_end|><|im_end|>\n'
    >>> rendered.ids.count(tokenizer.special_tokens["<|im_end|>"])         # not three: one is what somebody said
    2
    >>> taught = [id for id, is_taught in zip(rendered.ids, rendered.loss_mask) if is_taught]
    >>> tokenizer.decode(taught)
    '네<|im_end|><|im_end|>'
    """

    def __init__(
        self,
        source: str | Mapping[str, str],
        *,
        special_tokens: Mapping[str, str] | None = None,
        nfc: bool = True,
        where: str = "the chat template",
    ) -> None:
        self.sources = {"default": source} if isinstance(source, str) else dict(source)
        if "default" not in self.sources:
            raise TemplateError(f'{where}: none of {sorted(self.sources)} is named "default". Name one so.')
        self._templates = {name: Template(text, where=where) for name, text in self.sources.items()}
        self._special_tokens = dict(special_tokens or {})
        self._nfc = nfc

    @classmethod
    def load(cls, directory: str | Path, *, nfc: bool = True) -> "ChatTemplate":
        """Read the template of a checkpoint: chat_template.jinja, else `chat_template` in tokenizer_config.json.

        Raises:
            TemplateError: there is none, a file cannot be read, or the template is not valid Jinja.
        """
        directory = Path(directory)
        configs = [directory / name for name in ("special_tokens_map.json", "tokenizer_config.json")]
        config: dict[str, Any] = {}
        for file in configs:
            config |= read_json(file, error=TemplateError) if file.is_file() else {}
        source = _read_sources(directory) or _declared_sources(config)
        if not source:
            raise TemplateError(
                f"{directory} has no chat template: no chat_template.jinja, and no chat_template in "
                "tokenizer_config.json. If its model was tuned to chat, add the chat_template.jinja of its format."
            )
        return cls(
            source, special_tokens=_named_tokens(config), nfc=nfc, where=f"the chat template of {directory}"
        )

    @classmethod
    def default(cls) -> "ChatTemplate":
        """Return our own format, for models that we train: ChatML, as in the example above."""
        return cls(resources.files("malmoi.text").joinpath("templates/default.jinja").read_text("utf-8"))

    def save(self, directory: str | Path) -> None:
        """Write the template into `directory`, where `load` and `transformers` find it.

        Raises:
            TemplateError: the directory cannot be written.
        """
        for name, source in self.sources.items():
            file = "chat_template.jinja" if name == "default" else f"additional_chat_templates/{name}.jinja"
            write_text(Path(directory) / file, source, error=TemplateError)

    def render(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **template_kwargs: Any,
    ) -> Rendered:
        """Render a conversation: a prompt with one of the two flags, a training sample without.

        `add_generation_prompt` opens a turn for the assistant; `continue_final_message` leaves the last message open
        for the model to go on with. `template_kwargs` are variables of the template (Qwen3: `enable_thinking`).
        The ids are those of `transformers`, unless something that is passed in holds the string of a control token:
        that is encoded as plain text. Changes nothing that is passed in.

        Raises:
            TemplateError: the template refuses the messages; or it cannot be proven that what they say stays plain
                text; or, in a training sample, which tokens are the assistant's.
        """
        if add_generation_prompt and continue_final_message:
            raise TemplateError(
                "add_generation_prompt opens a new message, continue_final_message goes on with the last one. Set one."
            )
        is_prompt = add_generation_prompt or continue_final_message
        conversation = _checked(messages, self._nfc)
        template = self._templates["default"]
        if tools is not None:
            template = self._templates.get("tool_use", template)
        variables = {
            "documents": None,
            **_plain(template_kwargs),
            "messages": conversation,
            "tools": _checked_tools(tools),
            "add_generation_prompt": add_generation_prompt,
        }
        controls, encoder = _guard(template, tokenizer)
        chat = Authorship(
            template,
            controls,
            variables,
            trusted={name: token for name, token in self._special_tokens.items() if name not in variables},
            per_turn=not (is_prompt or template.has_generation_tag),
            is_continued=continue_final_message,
        )
        turns = [] if is_prompt else assistant_turns(chat, [message["role"] for message in conversation])
        content = [] if chat.inked is None else [span for _, span in chat.ink.spans(chat.inked)]
        ids, spans = encoder.encode(chat.text, untrusted=content)
        loss_mask = [overlaps(span, turns) for span in spans] if turns else [False] * len(ids)
        return Rendered(ids=ids, loss_mask=loss_mask, text=chat.text)


@lru_cache(maxsize=16)
def _guard(template: Template, tokenizer: Tokenizer) -> tuple[Controls, GuardedEncoder]:
    added = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()]
    controls = Controls.of(template, special=tokenizer.special_tokens, added=added)
    return controls, GuardedEncoder(tokenizer.backend, controls.all)


def _checked(messages: Sequence[object], nfc: bool) -> list[dict[str, Any]]:
    """The messages as `transformers` hands them to a template: plain data, no value None, one name for reasoning."""
    if not messages:
        raise TemplateError("the conversation is empty. Give at least one message.")
    conversation = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TemplateError(
                f"message {index} is {message!r:.80}, not a mapping with a role. "
                'Write it like {"role": "user", "content": "안녕"}.'
            )
        plain = _plain({key: value for key, value in message.items() if value is not None}, nfc=nfc)
        reasoning = next((plain[key] for key in _REASONING if key in plain), None)
        if reasoning is not None:
            plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
        conversation.append(plain)
    return conversation


def _checked_tools(tools: Sequence[object] | None) -> list[Any] | None:
    for tool in tools or ():
        if not isinstance(tool, Mapping):
            raise TemplateError(f"a tool is {tool!r:.80}. Describe it as a JSON schema, in a mapping.")
    return None if tools is None else [_plain(tool) for tool in tools]


def _plain(value: Any, *, nfc: bool = False) -> Any:
    """A copy of JSON-like `value` in exact Python types; anything else (an image) becomes "<TypeName>".

    The sandbox cannot know which methods of other objects are harmless, and templates only ask whether they exist.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), nfc)
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item, nfc=nfc) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        copy = [_plain(item, nfc=nfc) for item in value]
        return copy if isinstance(value, list) else tuple(copy)
    return f"<{type(value).__name__}>"


def _text(text: str, nfc: bool) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateError(
            f"a message holds half a character: {text!r:.80}. Repair the text first."
        ) from None
    return unicodedata.normalize("NFC", text) if nfc else text


def _read_sources(directory: Path) -> dict[str, str]:
    """Templates in files of their own: chat_template.jinja is the default, the others are in a folder."""
    files = {"default": directory / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted(directory.glob("additional_chat_templates/*.jinja"))}
    return {name: read_text(file, error=TemplateError) for name, file in files.items() if file.is_file()}


def _declared_sources(config: Mapping[str, Any]) -> dict[str, str]:
    """Templates in tokenizer_config.json: one string, or a list of named ones."""
    declared = config.get("chat_template") or []
    if isinstance(declared, str):
        return {"default": declared}
    return {entry["name"]: entry["template"] for entry in declared}


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """bos_token and the like, each written as a string or as a mapping with its `content`."""
    tokens = {name: config[name] for name in _NAMED_TOKENS if config.get(name)}
    return {name: token["content"] if isinstance(token, Mapping) else token for name, token in tokens.items()}
