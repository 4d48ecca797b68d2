"""What a caller asks, as the request that an engine is given.

    Prompt, images, sounds, SamplingParams -> REQUEST BUILDER -> TextRequest -> engine

All that is to be done before the first step: chat format, BOS and end of turn, placeholders, forms and locks. It knows
no engine, so `LLM` and `AsyncLLM` ask alike; several threads may. Read next: `chat_format.py`; `answer.py`, the way
back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from malmoi.core.errors import ConfigError, RequestError, TemplateError
from malmoi.engine import Attachment, Request, SamplingParams
from malmoi.llm import infill
from malmoi.llm.abilities import Abilities
from malmoi.llm.chat_format import ChatFormat
from malmoi.llm.media import Media, MediaReader, num_urls
from malmoi.llm.message import MessageReader
from malmoi.llm.parts import without_media
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt, is_conversation, is_ids
from malmoi.llm.reasoning import ThoughtReader
from malmoi.llm.rules import Expected, Rules, can_follow_grammars
from malmoi.llm.stop import StopStrings
from malmoi.llm.tools import Calling
from malmoi.media import ImageProcessor, SoundProcessor
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.text.chat import ChatTemplate, Message, Rendered
from malmoi.text.stream import Spelling
from malmoi.text.tokenizer import Tokenizer


def named_token(tokenizer: Tokenizer, name: str) -> list[int]:
    """The id of the token that tokenizer_config.json calls `name` ("bos_token", "eos_token"); [] if it has none."""
    token = tokenizer.config.get(name)
    token = token["content"] if isinstance(token, Mapping) else token
    token_id = tokenizer.token_id(token) if token else None
    return [] if token_id is None else [token_id]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextRequest:
    """A request, and what of it the engine does not know.

    Attributes:
        request: for the engine.
        stop_strings: where the text ends.
        at_start: the answer is a text of its own, not the rest of one.
        expected: thoughts and calls in it.
        beginning: the last of the request's tokens that are of the answer, and were told before.
    """

    request: Request
    stop_strings: Sequence[str]
    at_start: bool
    expected: Expected
    beginning: Sequence[int] = ()

    def reader(self, *, is_composing: bool) -> MessageReader:
        """What reads one of its texts from the very beginning; `is_composing` as its tokenizer is."""
        calling = self.expected.calling
        calls = None if calling is None else calling.reader(is_certain=can_follow_grammars())
        thoughts = self.expected.thoughts.copy()
        return MessageReader(thoughts, calls, StopStrings(self.stop_strings), is_composing=is_composing)

    def has_ended(self, tokenizer: Tokenizer) -> bool:
        """Whether `beginning`, in ids of this tokenizer, is all that may come."""
        if not self.beginning:
            return False
        message = self.reader(is_composing=tokenizer.is_composing)
        spelling = Spelling(tokenizer, shown=self.expected.shown, at_start=self.at_start)
        for token in self.beginning:
            message.push(spelling.push(token) if token < tokenizer.vocab_size else b"")
        return message.is_over


class RequestBuilder:
    """Makes the requests of one model. The arguments are those of `LLM`, and so are the errors.

    Attributes:
        media: what reads their images and sounds.
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | Path | None,
        stop_ids: Iterable[int],
        answer_opening: Iterable[int],
        image_processor: ImageProcessor | Path | None,
        sound_processor: SoundProcessor | Path | None,
    ) -> None:
        self.answer_opening = tuple(answer_opening)
        if bool(self.answer_opening) != isinstance(model, EncoderDecoder):
            raise ConfigError(
                f"answer_opening={self.answer_opening} with a model of the kind {type(model).__name__}: an "
                "encoder-decoder needs the token that its decoder starts with, another model goes on from its prompt. "
                "Give it to the former alone."
            )
        self.tokenizer = tokenizer
        self.stop_ids = frozenset(stop_ids)
        self._has_source = isinstance(model, EncoderDecoder)
        self._template = template
        self._vocab_size = model.vocab_size
        self._rules = Rules(tokenizer, vocab_size=model.vocab_size)
        self.media = MediaReader(model, image_processor=image_processor, sound_processor=sound_processor)

    def fetches(self, prompt: Prompt, media: Media) -> bool:
        """Whether `build` may wait for files from elsewhere.

        Raises as it does for what this model cannot take, and for too many files or URLs.
        """
        if self.media.policy.fetch is None:
            return False
        if isinstance(prompt, ChatPrompt):
            prompt = prompt.messages
        if is_conversation(prompt):
            _, media = without_media(prompt)
        self.media.check(media)
        return num_urls(media) > 0

    def build(
        self, prompt: Prompt, params: SamplingParams, media: Media = MappingProxyType({})
    ) -> TextRequest:
        """The request for a text, before which the images and sounds of `media` stand, or for any other prompt.

        Raises what `LLM.generate` and `LLM.chat` raise, but for what only an engine knows.
        """
        self.media.check(media)
        if isinstance(prompt, ChatPrompt):
            return self._build_chat(prompt, params, media)
        if is_conversation(prompt):
            return self._build_chat(ChatPrompt(messages=prompt), params, media)
        assert isinstance(prompt, str | Infill) or is_ids(prompt), "there is no other kind"
        ids, attachments = self._with_media(prompt, media)
        gap = self._gaps if isinstance(prompt, Infill) else None
        return self._request(
            ids,
            attachments,
            params,
            stop_ids=self.stop_ids if gap is None else self.stop_ids | gap.ends(self.tokenizer),
            at_start=prompt == "" or self._has_source,
            expected=Expected(),
        )

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The ids from which the model goes on, or which its encoder reads: see `LLM.prompt_ids`."""
        if isinstance(prompt, str):
            opening, closing = self._frame
            closing = closing if self._has_source else []
            return [*opening, *self._guarded.encode(prompt), *closing] or self._bos
        if isinstance(prompt, Infill):
            return [*self._frame[0], *self._gap_format().ids(prompt, self._guarded)]
        if isinstance(prompt, ChatPrompt):
            return [*self.chat.open(prompt).ids, *prompt.beginning]
        if is_ids(prompt):
            return list(prompt)
        assert is_conversation(prompt), "there is no other kind"
        return self.prompt_ids(ChatPrompt(messages=prompt))

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
    ) -> Rendered:
        """A conversation in the model's chat format: `ChatTemplate.render`, whose errors it raises."""
        return self.chat.render(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    @property
    def template(self) -> ChatTemplate:
        """The chat format. Raises TemplateError if there is none."""
        return self.chat.template

    @cached_property
    def chat(self) -> ChatFormat:
        """How the model talks."""
        return ChatFormat(self._template, self._guarded)

    @cached_property
    def abilities(self) -> Abilities:
        """What the model can do besides going on with a text."""
        media = frozenset({"images": "image", "audio": "audio"}[medium] for medium in self.media.placeholders)
        fills_gaps = self._gaps is not None and not self._has_source
        try:
            thoughts, calls = self.chat.thoughts, self.chat.calls
        except TemplateError:
            return Abilities(fills_gaps=fills_gaps, media=media)
        return Abilities(
            thinking="never" if thoughts is None else thoughts.ability,
            tools=calls is not None,
            fills_gaps=fills_gaps,
            media=media,
        )

    def _build_chat(self, prompt: ChatPrompt, params: SamplingParams, media: Media) -> TextRequest:
        self._check_beginning(prompt.beginning)
        if any(media.values()):
            raise RequestError("in a conversation images and audio are parts of messages. Put them there.")
        messages, media = without_media(prompt.messages)
        self.media.check(media)
        prompt = replace(prompt, messages=messages)
        opening = self.chat.open(prompt)
        ids, attachments = self.media.place(opening.ids, media)
        calls, thoughts = self.chat.calls, self.chat.thoughts
        calling = Calling.of(prompt, opening.shown, calls) if opening.shown and calls is not None else None
        asked = self._request(
            ids,
            attachments,
            params,
            stop_ids=self.stop_ids | self.chat.end_of_turn,
            at_start=not prompt.is_continued,
            expected=Expected(
                thoughts=ThoughtReader(thoughts, place=opening.place),
                thought_budget=None if thoughts is None else prompt.thought_budget,
                calling=calling,
                shown=self.chat.marks(calling=calling is not None),
                is_begun=bool(prompt.beginning),
            ),
            beginning=prompt.beginning,
        )
        if asked.has_ended(self.tokenizer):
            raise RequestError(
                "beginning holds the end of the answer already, a stop string or the only call: nothing can come "
                "behind it. Leave out what stands there, or what ends it."
            )
        return asked

    def _check_beginning(self, beginning: Sequence[int]) -> None:
        for token in beginning:
            if not 0 <= token < self._vocab_size:
                raise RequestError(
                    f"beginning has the id {token}, and the model's go from 0 to {self._vocab_size - 1}. Give ids that "
                    "it has answered with."
                )

    def _request(
        self,
        ids: Sequence[int],
        attachments: Sequence[Attachment],
        params: SamplingParams,
        *,
        stop_ids: frozenset[int],
        at_start: bool,
        expected: Expected,
        beginning: Sequence[int] = (),
    ) -> TextRequest:
        rule = self._rules.rule(params, expected, stop_ids=stop_ids)
        if rule is not None:
            for token in beginning:
                rule.advance(token)
        request = Request(
            tokens=[*(self.answer_opening if self._has_source else ids), *beginning],
            attachments=attachments,
            source=ids if self._has_source else None,
            params=params.without_text(),
            stop_ids=stop_ids,
            rule=rule,
            ends_alike=params.form is not None,
        )
        return TextRequest(
            request=request,
            stop_strings=params.stop,
            at_start=at_start,
            expected=expected,
            beginning=tuple(beginning),
        )

    def _with_media(
        self, prompt: str | Sequence[int] | Infill, media: Media
    ) -> tuple[list[int], list[Attachment]]:
        """`prompt_ids` with room for each image and sound, and what stands there."""
        ids = self.prompt_ids(prompt)
        if not isinstance(prompt, str):
            if any(media.values()):
                kind = "a gap" if isinstance(prompt, Infill) else "ids"
                raise RequestError(f"images and audio do not go before {kind}. Give the prompt as text.")
            return ids, []
        places = [self.media.placeholders[medium] for medium, sources in media.items() for _ in sources]
        start = len(ids) - len(self._guarded.encode(prompt)) if places else 0
        return self.media.place([*ids[:start], *places, *ids[start:]], media)

    def _gap_format(self) -> infill.GapFormat:
        if self._gaps is None or self._has_source:
            raise RequestError(
                "this model fills no gaps: its vocabulary has no marks for them. Ask it to go on with a text, or load "
                "a model that was trained to fill gaps."
            )
        return self._gaps

    @cached_property
    def _gaps(self) -> infill.GapFormat | None:
        return infill.find(self.tokenizer)

    @cached_property
    def _guarded(self) -> Tokenizer:
        """The tokenizer, to which the model's placeholders are control tokens also where its file does not say so."""
        return self.tokenizer.with_special(self.media.placeholders.values())

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """What tokenizer.json puts before and behind a text, else the tokens that tokenizer_config.json says to add."""
        encoding = self.tokenizer.backend.encode("a")
        is_added, opening, closing = encoding.special_tokens_mask, [], []
        if 0 in is_added:
            opening = list(encoding.ids[: is_added.index(0)])
            closing = list(encoding.ids[len(is_added) - is_added[::-1].index(0) :])
        config = self.tokenizer.config
        eos = named_token(self.tokenizer, "eos_token") if config.get("add_eos_token") else []
        return opening or (self._bos if config.get("add_bos_token") else []), closing or eos

    @property
    def _bos(self) -> list[int]:
        return named_token(self.tokenizer, "bos_token")


def check_messages(messages: object) -> None:
    """Raise RequestError for what is no conversation."""
    if not isinstance(messages, list | tuple | ChatPrompt):
        raise RequestError(
            f"chat takes a list of messages, not {type(messages).__name__}. A text goes to generate."
        )


def check_single(params: SamplingParams) -> None:
    """Raise RequestError for several answers, of which a stream has none to show first."""
    if params.n > 1:
        raise RequestError(
            f"n={params.n}, and a stream gives one answer. Leave n at 1, or use generate or chat."
        )
