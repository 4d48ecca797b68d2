"""`LLM`: texts and conversations in, answers out. Read next: `request_builder.py`, `answer.py`, `engine/engine.py`."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

from malmoi.core.errors import ConfigError, RequestError
from malmoi.engine import SamplingParams
from malmoi.engine.engine import Engine
from malmoi.llm.abilities import Abilities
from malmoi.llm.completion import Completion
from malmoi.llm.media import Media
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt
from malmoi.llm.request_builder import RequestBuilder, check_messages, check_single
from malmoi.llm.stream import DeltaStream, Pending, TextStream
from malmoi.media import ImageProcessor, SoundProcessor
from malmoi.media.sources import MediaSource
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.text.chat import ChatTemplate, Message
from malmoi.text.tokenizer import Tokenizer


class LLM:
    """A model with its tokenizer and chat format. Many requests at once, one thread at a time.

    A decoder goes on from a prompt; an encoder-decoder reads it and writes an answer.

    Args:
        model: any decoder or encoder-decoder of `models/` that reads text.
        tokenizer: the one that it was trained with.
        template: its chat format, or the directory from which the first chat reads it.
        stop_ids: the tokens that end a text, such as <|endoftext|>. A chat's end of turn is found without.
        default_params: how to sample when a call does not say.
        answer_opening: the tokens that every answer of an encoder-decoder begins with; none for a decoder.
        image_processor: for a model that sees, its processor, or the directory from which the first image reads it.
        sound_processor: the same for a model that hears.
        engine_options: what `Engine` is made with, by the names of its arguments: `{"cache_dtype": "int8"}`.

    Attributes:
        engine: what runs the requests; may be replaced by another of the same model.
        builder: what makes them.

    Raises ConfigError if `answer_opening` does not fit the kind of the model, or for options that no engine has.

    >>> llm = malmoi.load()                                              # doctest: +SKIP
    >>> llm.generate("한글은", SamplingParams(max_tokens=32)).text          # doctest: +SKIP
    >>> for piece in llm.stream([{"role": "user", "content": "안녕?"}]):   # doctest: +SKIP
    ...     print(piece, end="", flush=True)
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | Path | None = None,
        stop_ids: Iterable[int] = (),
        default_params: SamplingParams | None = None,
        answer_opening: Iterable[int] = (),
        image_processor: ImageProcessor | Path | None = None,
        sound_processor: SoundProcessor | Path | None = None,
        engine_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.builder = RequestBuilder(
            model,
            tokenizer,
            template=template,
            stop_ids=stop_ids,
            answer_opening=answer_opening,
            image_processor=image_processor,
            sound_processor=sound_processor,
        )
        self.model = model
        self.tokenizer = tokenizer
        self.default_params = default_params or SamplingParams()
        self.engine = Engine(model, **_checked(engine_options))

    @overload
    def generate(
        self,
        prompt: str | Infill,
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> Completion: ...
    @overload
    def generate(self, prompt: list[str], params: SamplingParams | None = None) -> list[Completion]: ...
    def generate(
        self,
        prompt: str | Infill | list[str],
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> Completion | list[Completion]:
        """Go on with a text, fill its gap, or answer it (encoder-decoders); with several texts, all at once, in order.

        `images`, and behind them `audio` (a path, bytes or a `data:` URL each), stand before the one text, for a model
        that sees or hears. A string among them is opened as a path: hand on no stranger's.
        Raises RequestError if a prompt has no room in the context, the model does not take the medium, or there are
        more than 64 files, MediaError for a file that cannot be read.
        """
        media = {"images": images, "audio": audio}
        if isinstance(prompt, str | Infill):
            return self._complete([prompt], params, media)[0]
        if not isinstance(prompt, list | tuple) or not all(isinstance(one, str) for one in prompt):
            raise RequestError("generate takes a text, or a list of texts. Messages go to chat.")
        if any(media.values()):
            raise RequestError(
                "images and audio stand before one text, and there are several. Ask one by one."
            )
        return self._complete(prompt, params)

    def chat(
        self, messages: Sequence[Message] | ChatPrompt, params: SamplingParams | None = None
    ) -> Completion:
        """Answer a conversation; a `ChatPrompt` says more of it: tools, thinking, a message to go on with.

        A message shows an image as a part of its content, `{"type": "image", "image": ...}`, and a sound as
        `{"type": "audio", "audio": ...}`, where the model takes them; OpenAI's `image_url` and `input_audio` are read,
        too. Anybody may have written the strings of a message: none becomes a control token, and for an image or a
        sound none but a `data:` URL is read. A `pathlib.Path` is trusted, and opened wherever it points; so put one
        there only where you know who chose it.

        Raises:
            TemplateError: there is no chat format, it refuses `messages`, or a part of one is not known.
            RequestError: the conversation has no room in the context, the model does not take a medium, there are
                more than 64 images and sounds, or what is said of it the model cannot do.
            MediaError: a string that is no `data:` URL, or an image or a sound that cannot be read.
        """
        check_messages(messages)
        return self._complete([messages], params)[0]

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> TextStream:
        """`generate` for a text, `chat` for messages, piece by piece; `Infill` fills a gap.

        Raises as they do, and at once; and RequestError for several answers (`SamplingParams.n`).
        """
        params = params or self.default_params
        check_single(params)
        return TextStream(self._pending(prompt, params, {"images": images, "audio": audio}).pieces())

    def deltas(self, prompt: Prompt, params: SamplingParams | None = None) -> DeltaStream:
        """`stream` with what a model thinks and calls. Raises as it does."""
        params = params or self.default_params
        check_single(params)
        return DeltaStream(self._pending(prompt, params, {}).deltas())

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The ids from which the model goes on, or which its encoder reads.

        A text begins, and for an encoder also ends, as the tokenizer's files say, with a BOS token where they add
        one, as in `transformers`; an empty text is the BOS token alone. In a chat the chat format says everything.
        """
        return self.builder.prompt_ids(prompt)

    @property
    def abilities(self) -> Abilities:
        """What the model can do besides going on with a text."""
        return self.builder.abilities

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end a text."""
        return self.builder.stop_ids

    @property
    def answer_opening(self) -> tuple[int, ...]:
        """What every answer of an encoder-decoder begins with."""
        return self.builder.answer_opening

    @property
    def template(self) -> ChatTemplate:
        """The chat format. Raises TemplateError if there is none."""
        return self.builder.template

    def _complete(
        self, prompts: Sequence[Prompt], params: SamplingParams | None, media: Media = MappingProxyType({})
    ) -> list[Completion]:
        answers = [self._pending(prompt, params or self.default_params, media) for prompt in prompts]
        try:
            for answer in answers:
                answer.start()
            while unfinished := [answer for answer in answers if not answer.is_finished]:
                self.engine.step()
                for answer in unfinished:
                    answer.advance()
        finally:
            for answer in answers:
                answer.stop()
        return [answer.completion() for answer in answers]

    def _pending(self, prompt: Prompt, params: SamplingParams, media: Media) -> Pending:
        return Pending(self.builder.build(prompt, params, media), self.engine, self.tokenizer)


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options, if an engine has each of them."""
    known = [name for name in signature(Engine).parameters if name != "model"]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"engine_options has {name!r}, and an engine has no such option.{hint} It has: {', '.join(known)}."
            )
    return options
