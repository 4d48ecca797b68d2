"""What a tiny Whisper writes down of a sound is what transformers makes of it, chunk for chunk."""

import asyncio
import gc
import io
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

from malmoi.core.errors import CheckpointError, ConfigError, MediaError, RequestError
from malmoi.llm.transcribe import AsyncTranscriber, Transcriber
from malmoi.media import SoundProcessor, load_sound, save_processors
from malmoi.models import save_model
from malmoi.testing.models import tiny_llama
from malmoi.testing.tokenizer import ByteTokenizer

SPECIAL = (
    "<|endoftext|>",
    "<|start|>",
    "<|en|>",
    "<|ko|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|notimestamps|>",
)
END, START, EN, KO, TRANSLATE, TRANSCRIBE, NO_TIMESTAMPS = range(7)
SEED = 12  # of weights under which some chunks end and others do not
PROCESSOR = SoundProcessor(num_mels=8, chunk_seconds=1)
GENERATION: dict[str, Any] = {
    "decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": END, "bos_token_id": END,
    "is_multilingual": True, "lang_to_id": {"<|en|>": EN, "<|ko|>": KO}, "max_length": 24,
    "task_to_id": {"transcribe": TRANSCRIBE, "translate": TRANSLATE}, "no_timestamps_token_id": NO_TIMESTAMPS,
    "return_timestamps": False, "begin_suppress_tokens": [END, 40],
    # All but the end and a few letters, so that the end comes sometimes.
    "suppress_tokens": [i for i in range(1, 263) if i not in range(104, 110)],
}  # fmt: skip


def noise(seconds: float, seed: int = 0) -> bytes:
    """A WAV of noise that swells and ebbs."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    samples = np.random.default_rng(seed).normal(size=len(time)) * np.sin(7 * time) ** 2 / 10
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The reference's model in a directory, `directory`, with all that a published Whisper has beside it."""
    directory = tmp_path_factory.mktemp("whisper")
    sides = {
        f"{side}_{key}": n
        for side in ("encoder", "decoder")
        for key, n in (("layers", 2), ("attention_heads", 2))
    }
    config = transformers.WhisperConfig(
        **sides, vocab_size=263, d_model=16, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8,
        max_source_positions=50, max_target_positions=24, bos_token_id=END, eos_token_id=END, pad_token_id=END,
        decoder_start_token_id=START,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # What is heard and how far the text has come weigh more than the last letter, or it would repeat.
            std = 0.1 if "embed_tokens" in name else 1.0
            weights = torch.empty_like(parameter).normal_(std=std, generator=generator)
            parameter.copy_(parameter + weights if parameter.ndim == 1 else weights)
    model.generation_config = transformers.GenerationConfig(**GENERATION)
    model.save_pretrained(directory)
    ByteTokenizer(SPECIAL).save(directory)
    save_processors(directory, sound=PROCESSOR)
    model.directory = directory
    return model


@pytest.fixture(scope="module")
def transcriber(theirs: Any) -> Transcriber:
    return Transcriber.load(theirs.directory)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("language", ["ko", "en", None])
@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_each_chunk_is_written_down_as_the_reference_does(
    theirs: Any, transcriber: Transcriber, language: str | None, task: str
) -> None:
    sound = noise(3.4)
    found = transcriber.transcribe(sound, language=language, task=task)
    mel = torch.from_numpy(PROCESSOR(load_sound(sound)).mel)
    if language is None:
        wanted = theirs.detect_language(input_features=mel[:1])
        assert {"ko": KO, "en": EN}[found.language or ""] == int(wanted[0])
    ids = theirs.generate(input_features=mel, language=found.language, task=task)
    rows = [[i for i in row if i not in range(7)] for row in ids.tolist()]
    assert found.tokens == rows
    assert len(set(map(len, rows))) > 1


def test_the_text_is_that_of_the_chunks_in_their_order(transcriber: Transcriber) -> None:
    found = transcriber.transcribe(noise(2.5), language="ko")
    assert len(found.tokens) == 3
    assert found.text == " ".join(transcriber.tokenizer.decode(ids) for ids in found.tokens)
    assert found.language == "ko"


def test_no_chunk_depends_on_the_others(transcriber: Transcriber) -> None:
    together = transcriber.transcribe(noise(3.0), language="ko").tokens
    samples, _ = soundfile.read(io.BytesIO(noise(3.0)), dtype="float32")
    for chunk, tokens in zip(np.split(samples, 3), together, strict=True):
        file = io.BytesIO()
        soundfile.write(file, chunk, 16_000, format="WAV", subtype="FLOAT")
        assert transcriber.transcribe(file.getvalue(), language="ko").tokens == [tokens]


def test_how_many_chunks_are_in_memory_does_not_matter(
    transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = transcriber.transcribe(noise(4.5), language="ko")
    monkeypatch.setattr("malmoi.llm.transcribe.CHUNKS_AT_ONCE", 2)
    assert transcriber.transcribe(noise(4.5), language="ko") == together


def test_what_is_suppressed_is_never_written_nor_first(transcriber: Transcriber) -> None:
    tokens = transcriber.transcribe(noise(4.0), language="ko").tokens
    assert all(tokens)  # the end may not come first
    assert {i for row in tokens for i in row} <= set(range(104, 110))


def test_a_language_or_a_task_that_the_model_does_not_have_is_refused(transcriber: Transcriber) -> None:
    with pytest.raises(RequestError, match="language='kr' is not one .* Did you mean 'ko'. It has: en, ko"):
        transcriber.transcribe(noise(0.1), language="kr")
    with pytest.raises(RequestError, match="task='translte' is not one .* Did you mean 'translate'"):
        transcriber.transcribe(noise(0.1), language="ko", task="translte")


def test_a_broken_sound_is_a_media_error(transcriber: Transcriber) -> None:
    with pytest.raises(MediaError, match="no WAV, FLAC or OGG"):
        transcriber.transcribe(b"ID3 and so on")


def rewritten(theirs: Any, directory: Path, **changes: Any) -> Path:
    """The same directory with other keys in its generation_config.json; None removes one."""
    for file in theirs.directory.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    keys = {key: value for key, value in (GENERATION | changes).items() if value is not None}
    (directory / "generation_config.json").write_text(json.dumps(keys), "utf-8")
    return directory


def test_a_model_of_english_alone_takes_no_language(theirs: Any, tmp_path: Path) -> None:
    one = Transcriber.load(
        rewritten(theirs, tmp_path, lang_to_id=None, task_to_id=None, is_multilingual=False)
    )
    assert one.task_tokens.prompt(None, "transcribe") == [START, NO_TIMESTAMPS]
    assert one.transcribe(noise(0.5)).language is None
    with pytest.raises(
        RequestError, match="language='ko' and task='transcribe', but this model only writes down"
    ):
        one.transcribe(noise(0.5), language="ko")


@pytest.mark.parametrize("missing", ["lang_to_id", "task_to_id"])
@pytest.mark.parametrize("is_multilingual", [True, None])
def test_a_model_of_many_languages_is_never_taken_for_one_of_english_alone(
    theirs: Any, tmp_path: Path, missing: str, is_multilingual: bool | None
) -> None:
    changed = rewritten(theirs, tmp_path, **{missing: None}, is_multilingual=is_multilingual)
    with pytest.raises(
        CheckpointError, match=rf"generation_config.json: '{missing}' is missing, and 'is_multilingual'"
    ):
        Transcriber.load(changed)


def test_a_prompt_of_many_languages_names_one(transcriber: Transcriber) -> None:
    with pytest.raises(
        RequestError, match="language=None, but this model has to be told which of these: en, ko"
    ):
        transcriber.task_tokens.prompt(None, "transcribe")


def test_a_file_that_does_not_say_its_tokens_is_refused(theirs: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"generation_config.json: .*no_timestamps_token_id"):
        Transcriber.load(rewritten(theirs, tmp_path, no_timestamps_token_id=None))
    (tmp_path / "generation_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*generation_config.json"):
        Transcriber.load(tmp_path)


def test_a_model_without_ears_is_refused(tmp_path: Path) -> None:
    save_model(tiny_llama(), tmp_path)
    with pytest.raises(ConfigError, match="a transcription takes a model of the kind AudioToText"):
        Transcriber.load(tmp_path)


# --- giving up ---


@pytest.fixture
def computed(transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model computes from now on, two chunks at once: the chunks, and tokens."""
    done: list[str] = []
    encode, hidden = transcriber.model.encode, transcriber.model.hidden

    def noted_encode(*args: Any) -> Any:
        done.append("chunks")
        return encode(*args)

    def noted_hidden(*args: Any) -> Any:
        done.append("token")
        return hidden(*args)

    monkeypatch.setattr(transcriber.model, "encode", noted_encode)
    monkeypatch.setattr(transcriber.model, "hidden", noted_hidden)
    monkeypatch.setattr("malmoi.llm.transcribe.CHUNKS_AT_ONCE", 2)
    return done


@pytest.mark.parametrize("language", ["ko", None])
def test_whenever_a_sound_is_given_up_nothing_more_is_computed(
    transcriber: Transcriber, computed: list[str], language: str | None
) -> None:
    asked_after: list[int] = []  # so many computations, each time

    def noted() -> bool:
        asked_after.append(len(computed))
        return False

    sound = noise(2.5)
    transcriber.transcribe(sound, language=language, is_cancelled=noted)
    whole = list(computed)
    num_heard = int(language is None)  # the first chunk, for its language
    assert 2 + num_heard == whole.count("chunks") < whole.count("token")
    assert set(asked_after) == set(range(len(whole)))  # before each of them
    assert asked_after[:2] == [0, 0]  # before the sound is read, and after it
    for num_asked, num_computed in list(enumerate(asked_after))[::5]:
        computed.clear()
        answers = itertools.chain(itertools.repeat(False, num_asked), itertools.repeat(True))
        with pytest.raises(CancelledError):
            transcriber.transcribe(sound, language=language, is_cancelled=answers.__next__)
        assert computed == whole[:num_computed]


@contextmanager
def a_token_that_takes_long(transcriber: Transcriber) -> Iterator[Event]:
    """Who computes a token is held up in it till the end of the block; the event says that somebody is."""
    begun, is_over = Event(), Event()
    hidden = transcriber.model.hidden

    def held_up(*args: Any) -> Any:
        begun.set()
        assert is_over.wait(60)
        return hidden(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcriber.model, "hidden", held_up)
        try:
            yield begun
        finally:
            is_over.set()


async def as_far_as_it_goes() -> None:
    """Let every coroutine go on until it waits for the thread."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("num_cancellations", [1, 2])
def test_who_stops_waiting_ends_the_hearing_and_the_next_sound_begins_after_it(
    transcriber: Transcriber, computed: list[str], num_cancellations: int
) -> None:
    alone = transcriber.transcribe(noise(2.0), language="ko")
    whole = list(computed)
    computed.clear()

    async def run() -> None:
        serving = AsyncTranscriber(transcriber)
        with a_token_that_takes_long(transcriber) as begun:
            first = asyncio.create_task(serving.transcribe(noise(2.5), language="ko"))
            assert await asyncio.to_thread(begun.wait, 60)
            second = asyncio.create_task(serving.transcribe(noise(2.0), language="ko"))
            for _ in range(num_cancellations):
                first.cancel()
                await as_far_as_it_goes()
            assert first.cancelled()
        assert await second == alone
        assert computed == ["chunks", "token", *whole]
        await serving.close()

    asyncio.run(run())


@pytest.mark.parametrize("num_cancellations", [0, 1, 2])
def test_close_ends_what_is_heard_and_what_waits_and_nothing_is_computed_after_it(
    transcriber: Transcriber, computed: list[str], num_cancellations: int
) -> None:
    async def run() -> None:
        serving = AsyncTranscriber(transcriber)
        with a_token_that_takes_long(transcriber) as begun:
            heard = asyncio.create_task(serving.transcribe(noise(2.5), language="ko"))
            assert await asyncio.to_thread(begun.wait, 60)
            waiting = asyncio.create_task(serving.transcribe(noise(2.0), language="ko"))
            for _ in range(num_cancellations):
                heard.cancel()
                await as_far_as_it_goes()
            closing = asyncio.create_task(serving.close())
            await as_far_as_it_goes()
            assert not closing.done()
        await closing
        assert computed == ["chunks", "token"]
        with pytest.raises(asyncio.CancelledError if num_cancellations else RequestError):
            await heard
        for late in (waiting, serving.transcribe(noise(2.0), language="ko")):
            with pytest.raises(RequestError, match="was closed before the sound was written down"):
                await late
        assert computed == ["chunks", "token"]

    asyncio.run(run())


def test_what_is_wrong_with_a_sound_is_told_to_its_caller_alone(transcriber: Transcriber) -> None:
    async def run() -> None:
        serving = AsyncTranscriber(transcriber)
        broken, good = (
            asyncio.create_task(serving.transcribe(sound, language="ko")) for sound in (b"ID3", noise(1.0))
        )
        with pytest.raises(MediaError):
            await broken
        assert await good == transcriber.transcribe(noise(1.0), language="ko")
        await serving.close()

    asyncio.run(run())


def test_what_goes_wrong_with_a_sound_that_was_given_up_is_told_to_nobody(
    transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(transcriber.model, "hidden", broken)

    async def run() -> None:
        serving = AsyncTranscriber(transcriber)
        with a_token_that_takes_long(transcriber) as begun:
            given_up = asyncio.create_task(serving.transcribe(noise(1.0), language="ko"))
            assert await asyncio.to_thread(begun.wait, 60)
            given_up.cancel()
            await as_far_as_it_goes()
        await serving.close()

    asyncio.run(run())
    gc.collect()  # asyncio tells of an error that nobody has looked at when it is collected
    assert not caplog.records
