"""Sound in, text out: a Whisper with its tokenizer, its sound processor and the tokens that say its task.

    source -> load_sound -> SoundProcessor -> spectrograms -> encoder -> greedy decoder -> ids -> text

Place in the flow: `malmoi transcribe` calls it. The chunks of a long sound are written down side by side, each as if
it were alone: a word on the border is cut in two. Read next: `models/whisper.py`; `media/sound_processor.py`.
"""

import asyncio
import difflib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.core.config import from_mapping
from malmoi.core.errors import CheckpointError, RequestError
from malmoi.core.files import read_json
from malmoi.media import SoundProcessor, load_sound, load_sound_processor
from malmoi.media.sources import MediaSource
from malmoi.models import load_model, require_kind
from malmoi.models.checkpoint import Dtype
from malmoi.nn.audio import AudioToText
from malmoi.nn.context import Context
from malmoi.text.tokenizer import Tokenizer
from malmoi.weights.hub import resolve

CHUNKS_AT_ONCE = 8
"""How many chunks of a long sound are in memory together, in all layers of the encoder."""


@dataclass(frozen=True, kw_only=True)
class TaskTokens:
    """What a Whisper's generation_config.json says of its ids (Radford et al. 2022, arXiv:2212.04356, section 2.3).

    A model of English alone has no languages and no tasks: `lang_to_id` and `task_to_id` are empty.

    >>> tokens = TaskTokens(
    ...     decoder_start_token_id=90, eos_token_id=80, no_timestamps_token_id=95,
    ...     lang_to_id={"<|en|>": 91, "<|ko|>": 92}, task_to_id={"transcribe": 93, "translate": 94},
    ... )
    >>> tokens.prompt("ko", "transcribe")
    [90, 92, 93, 95]
    >>> tokens.prompt("kr", "transcribe")
    Traceback (most recent call last):
        ...
    malmoi.core.errors.RequestError: language='kr' is not one that this model writes. Did you mean 'ko'? It has: en, ko.

    Raises RequestError for a language or a task that the model does not have, or for none where it has several.
    """

    decoder_start_token_id: int
    eos_token_id: int
    no_timestamps_token_id: int
    lang_to_id: Mapping[str, int] = field(default_factory=dict)
    task_to_id: Mapping[str, int] = field(default_factory=dict)
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()

    @property
    def languages(self) -> dict[str, int]:
        """Their codes, "ko", and ids."""
        return {name.strip("<|>"): token for name, token in self.lang_to_id.items()}

    def prompt(self, language: str | None, task: str) -> list[int]:
        """What the decoder is given to go on from: a language and a task, or neither in a model of one language."""
        chosen = []
        if self.lang_to_id:
            if language is None:
                raise RequestError(
                    f"language=None, but this model has to be told which of these: {', '.join(self.languages)}."
                )
            chosen = [_chosen("language", language, self.languages), _chosen("task", task, self.task_to_id)]
        elif (language, task) not in ((None, "transcribe"), ("en", "transcribe")):
            raise RequestError(
                f"{language=} and {task=}, but this model only writes down English. Use a multilingual one."
            )
        return [self.decoder_start_token_id, *chosen, self.no_timestamps_token_id]


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was said: the text, its language ("ko", None where the model knows only one), the ids of each chunk."""

    text: str
    language: str | None
    tokens: list[list[int]]


class Transcriber:
    """A speech model and all that it takes to go from a sound to text. One sound at a time.

    >>> transcriber = Transcriber.load("openai/whisper-tiny")                 # doctest: +SKIP
    >>> transcriber.transcribe("speech.flac", language="ko").text             # doctest: +SKIP
    """

    def __init__(
        self, model: AudioToText, tokenizer: Tokenizer, processor: SoundProcessor, task_tokens: TaskTokens
    ) -> None:
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        self.task_tokens = task_tokens

    @classmethod
    def load(cls, path_or_hub_id: str | Path, *, dtype: Dtype | None = None) -> "Transcriber":
        """Load a model directory or a hub id; `dtype=None` keeps the precision of the file.

        Raises CheckpointError, ConfigError, TokenizerError or HubError, each saying what to do.
        """
        directory = resolve(path_or_hub_id)
        model = require_kind(load_model(directory, dtype=dtype), AudioToText, for_what="a transcription")
        return cls(model, Tokenizer.load(directory), load_sound_processor(directory), _task_tokens(directory))

    def transcribe(
        self,
        sound: MediaSource,
        *,
        language: str | None = None,
        task: str = "transcribe",
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Transcript:
        """Write down what is said in a file, in bytes or in a `data:` URL.

        `language` is a code such as "ko"; None: the one that the model hears in the first chunk, 30 seconds in a
        published model. `task` is "transcribe" or "translate", into English. `is_cancelled` is asked before the sound
        is read, before its language is heard, before each `CHUNKS_AT_ONCE` chunks are encoded and before each token.

        Raises:
            MediaError: the sound cannot be read.
            RequestError: a language or a task that the model does not have.
            CancelledError: that of `concurrent.futures`, once `is_cancelled` says so.
        """
        _raise_if_cancelled(is_cancelled)
        features = self.processor(load_sound(sound, sample_rate=self.processor.sample_rate))
        audio = torch.from_numpy(features.mel).to(self.model.device)
        if language is None and self.task_tokens.lang_to_id:
            _raise_if_cancelled(is_cancelled)
            language = self.heard_language(audio[:1])
        prompt = self.task_tokens.prompt(language, task)
        tokens = [
            ids
            for some in torch.split(audio, CHUNKS_AT_ONCE)
            for ids in self.write(some, prompt, is_cancelled)
        ]
        texts = [self.tokenizer.decode(ids, skip_special=True).strip() for ids in tokens]
        return Transcript(text=" ".join(filter(None, texts)), language=language, tokens=tokens)

    @torch.inference_mode()
    def heard_language(self, audio: Float[Tensor, "1 mels frames"]) -> str:
        """The likeliest token after the first, of those that are languages (arXiv:2212.04356, section 2.3)."""
        start = torch.tensor([[self.task_tokens.decoder_start_token_id]], device=audio.device)
        logits = self.model(start, audio=audio).logits[0, 0]
        return max(self.task_tokens.languages.items(), key=lambda item: float(logits[item[1]]))[0]

    @torch.inference_mode()
    def write(
        self,
        audio: Float[Tensor, "B mels frames"],
        prompt: Sequence[int],
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> list[list[int]]:
        """The ids that follow `prompt` for each spectrogram, the likeliest every time, without the end-of-text.

        Raises CancelledError as `transcribe` does.
        """
        _raise_if_cancelled(is_cancelled)
        model, end = self.model, self.task_tokens.eos_token_id
        never = list(self.task_tokens.suppress_tokens)
        not_first = [*never, *self.task_tokens.begin_suppress_tokens]
        source = model.encode(audio)
        tokens = torch.tensor([prompt], device=source.device).expand(len(source), -1)
        caches, num_cached = model.new_caches(), 0
        written = tokens[:, :0]
        while num_cached + tokens.shape[1] < model.max_positions and not (written == end).any(1).all():
            _raise_if_cancelled(is_cancelled)
            context = Context.dense(
                tokens, specs=model.cache_specs(), caches=caches, num_cached=num_cached, source=source
            )
            num_cached += tokens.shape[1]
            logits = model.head(model.hidden(tokens, context)[:, -1:])
            logits[..., never if written.shape[1] else not_first] = -torch.inf
            source, tokens = source[:, :0], logits.argmax(-1)
            written = torch.cat([written, tokens], dim=1)
        rows: list[list[int]] = written.tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]


class AsyncTranscriber:
    """A `Transcriber` for servers: the event loop goes on meanwhile, and one sound after the other is written down.

    Whoever stops waiting, because its task was cancelled, ends the hearing of its sound: after the token that is being
    computed, or the chunks that are being encoded; reading the sound and making its spectrogram run to their end. The
    next sound begins when that has come to its end, not before.

    Nobody else may use `transcriber` until `close`, which ends all sounds, heard or waiting, with a RequestError.

    >>> transcriber = AsyncTranscriber(Transcriber.load("openai/whisper-tiny"))           # doctest: +SKIP
    >>> (await transcriber.transcribe("speech.flac", language="ko")).text                 # doctest: +SKIP
    """

    def __init__(self, transcriber: Transcriber) -> None:
        self.transcriber = transcriber
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def transcribe(
        self, sound: MediaSource, *, language: str | None = None, task: str = "transcribe"
    ) -> Transcript:
        """`Transcriber.transcribe`, when it is its turn. Raises its errors, and RequestError after `close`."""
        nobody_waits = Event()
        await self._turn.acquire()
        hearing = asyncio.create_task(
            asyncio.to_thread(
                self.transcriber.transcribe,
                sound,
                language=language,
                task=task,
                is_cancelled=lambda: self._is_closed or nobody_waits.is_set(),
            )
        )
        hearing.add_done_callback(self._heard)
        try:
            await asyncio.wait([hearing])  # a cancellation ends the waiting; the thread ends by itself
        finally:
            nobody_waits.set()
        if hearing.cancelled():
            raise RequestError("the transcriber was closed before the sound was written down. Ask another.")
        return hearing.result()

    def _heard(self, hearing: asyncio.Task[Transcript]) -> None:
        self._turn.release()
        if not hearing.cancelled():
            hearing.exception()  # it was told to whoever still waited

    async def close(self) -> None:
        """End the sound that is being written down, and those that wait; nothing is computed any more after that."""
        self._is_closed = True
        async with self._turn:
            pass


def _raise_if_cancelled(is_cancelled: Callable[[], bool]) -> None:
    if is_cancelled():
        raise CancelledError("nobody waits for this sound any more.")


def _task_tokens(directory: Path) -> TaskTokens:
    """The keys of generation_config.json that say what the ids mean; the rest is how to search and where to stop."""
    file = directory / "generation_config.json"
    keys: dict[str, Any] = read_json(file, error=CheckpointError)
    known = TaskTokens.__dataclass_fields__
    tokens = from_mapping(
        TaskTokens, {k: v for k, v in keys.items() if k in known and v is not None}, where=str(file)
    )
    if keys.get("is_multilingual") is not False:
        for key in ("lang_to_id", "task_to_id"):
            if not getattr(tokens, key):
                raise CheckpointError(
                    f"{file}: {key!r} is missing, and 'is_multilingual' is not false. Take both from the file of the "
                    "model that this one was tuned from."
                )
    return tokens


def _chosen(what: str, name: str, choices: Mapping[str, int]) -> int:
    if name not in choices:
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RequestError(
            f"{what}={name!r} is not one that this model writes.{hint} It has: {', '.join(choices)}."
        )
    return choices[name]
