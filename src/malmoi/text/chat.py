"""A conversation as the ids that a model reads: ONE renderer, to train and to serve.

    messages -> RENDER -> Rendered(ids, loss_mask, text) -> engine | packing

The checkpoint's own Jinja template says how, and its text is that of `transformers` to the letter. What a message
says can never become a control token. Read next: messages.py (what a template is given), template.py (how it runs),
authorship.py (who wrote which character), turns.py (the loss mask), guarded.py (text to ids), and the reasons in
docs/decisions/0003-chat-rendering.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from malmoi.core.errors import TemplateError
from malmoi.core.files import read_json, read_text, write_text
from malmoi.text.authorship import Authorship
from malmoi.text.controls import Controls
from malmoi.text.guarded import GuardedEncoder
from malmoi.text.ink import overlaps
from malmoi.text.messages import plain, plain_messages, plain_tools
from malmoi.text.template import Template
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.turns import assistant_turns

Message = Mapping[str, Any]
"""{"role": "user" | "assistant" | "system" | "tool", "content": str | list of parts, ...}: the OpenAI shape."""

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


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
    `special_tokens` are the checkpoint's variables for it (bos_token ...). With `nfc` the strings of messages and tools
    are normalised to NFC: 한 typed on a Mac (ᄒ+ᅡ+ᆫ) and on Windows (한) are the same text.

    Raises:
        TemplateError: a template is not valid Jinja, or none is named "default".

    >>> from malmoi.text.training import train_bpe
    >>> tokenizer = train_bpe(["안녕"], vocab_size=259)
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

    @property
    def literals(self) -> tuple[str, ...]:
        """All pieces of text that its templates can write."""
        return tuple(text for template in self._templates.values() for text in template.literals)

    def reads(self, variable: str) -> bool:
        """Whether one of its templates looks at a variable, such as `tools` or `enable_thinking`."""
        return any(variable in template.variables for template in self._templates.values())

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
        conversation = plain_messages(messages, nfc=self._nfc)
        template = self._templates["default"]
        if tools is not None:
            template = self._templates.get("tool_use", template)
        variables = {
            "documents": None,
            **plain(template_kwargs),
            "messages": conversation,
            "tools": plain_tools(tools, nfc=self._nfc),
            "add_generation_prompt": add_generation_prompt,
        }
        controls, encoder = _guard(template, tokenizer)
        chat = Authorship(
            template,
            controls,
            variables,
            trusted=self._special_tokens,
            per_turn=not (is_prompt or template.has_generation_tag),
            is_continued=continue_final_message,
        )
        turns = [] if is_prompt else assistant_turns(chat, [message["role"] for message in conversation])
        content = [] if chat.inked is None else [span for _, span in chat.ink.spans(chat.inked)]
        ids, spans = encoder.encode(chat.text, untrusted=content)
        loss_mask = [overlaps(span, turns) for span in spans] if turns else [False] * len(ids)
        return Rendered(ids=ids, loss_mask=loss_mask, text=chat.text)


_GUARDS: WeakKeyDictionary[Tokenizer, dict[Template, tuple[Controls, GuardedEncoder]]] = WeakKeyDictionary()
"""Made once for a tokenizer and a template, and gone with the tokenizer: a server's models come and go."""


def _guard(template: Template, tokenizer: Tokenizer) -> tuple[Controls, GuardedEncoder]:
    guards = _GUARDS.setdefault(tokenizer, {})
    if template not in guards:
        guards[template] = _new_guard(template, tokenizer)
    return guards[template]


def _new_guard(template: Template, tokenizer: Tokenizer) -> tuple[Controls, GuardedEncoder]:
    added = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()]
    controls = Controls.of(template, special=tokenizer.special_tokens, added=added)
    return controls, GuardedEncoder(tokenizer.backend, controls.all)


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
