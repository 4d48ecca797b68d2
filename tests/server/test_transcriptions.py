"""/v1/audio/transcriptions writes down what the transcriber does, for OpenAI's own client."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from tests.server.conftest import Serve, Served, wait_until

from malmoi.llm.transcribe import TaskTokens, Transcriber
from malmoi.media import SoundProcessor
from malmoi.models import build_model, initialise, require_kind
from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.whisper import WhisperConfig
from malmoi.nn.audio import AudioToText
from malmoi.testing.models import tiny_llm
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
TASKS = TaskTokens(
    decoder_start_token_id=START, eos_token_id=END, no_timestamps_token_id=NO_TIMESTAMPS,
    lang_to_id={"<|en|>": EN, "<|ko|>": KO}, task_to_id={"transcribe": TRANSCRIBE, "translate": TRANSLATE},
    suppress_tokens=tuple(i for i in range(1, 263) if i not in range(104, 110)), begin_suppress_tokens=(END,),
)  # fmt: skip
PATH = "/v1/audio/transcriptions"


def noise(seconds: float) -> bytes:
    samples = np.random.default_rng(0).normal(size=int(seconds * 16_000)) / 10
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def served(start_server: Serve) -> Served:
    shape = {"intermediate_size": 24, "num_layers": 2, "num_heads": 2}
    encoder = AudioTowerConfig(num_mels=8, hidden_size=16, max_positions=50, **shape)
    config = WhisperConfig(encoder=encoder, vocab_size=263, max_positions=24, **shape)
    model = require_kind(build_model(config), AudioToText, for_what="a test")
    transcriber = Transcriber(
        initialise(model, seed=0, std=1.0).eval(),
        ByteTokenizer(SPECIAL),
        SoundProcessor(num_mels=8, chunk_seconds=1),
        TASKS,
    )
    models: dict[str, Any] = {"whisper": transcriber, "talker": tiny_llm()}
    return start_server(models)


@pytest.mark.parametrize("language", ["ko", None])
def test_a_transcript_is_the_transcribers(served: Served, language: str | None) -> None:
    sound = noise(2.5)
    wanted = served.models["whisper"].transcribe(sound, language=language)
    options = {} if language is None else {"language": language}
    found = served.openai.audio.transcriptions.create(model="whisper", file=("a.wav", sound), **options)
    assert found.text == wanted.text != ""


def test_a_translation_is_too(served: Served) -> None:
    sound = noise(1)
    wanted = served.models["whisper"].transcribe(sound, task="translate")
    found = served.http.post("/v1/audio/translations", files={"file": sound}, data={"model": "whisper"})
    assert found.json() == {"text": wanted.text, "language": wanted.language}


def test_a_text_may_come_alone(served: Served) -> None:
    files, data = {"file": noise(1)}, {"model": "whisper", "language": "ko"}
    text = served.http.post(PATH, files=files, data={**data, "response_format": "text"}).text
    assert text == served.http.post(PATH, files=files, data=data).json()["text"] + "\n"


def test_sounds_of_many_clients_are_written_down_each_as_alone(served: Served) -> None:
    sounds = [noise(seconds) for seconds in (1, 1.5, 2)]
    wanted = [served.models["whisper"].transcribe(sound).text for sound in sounds]
    with ThreadPoolExecutor(3) as pool:
        found = list(
            pool.map(lambda sound: served.http.post(PATH, files={"file": sound}).json()["text"], sounds)
        )
    assert found == wanted


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"temperature": "0.5"}, "temperature"),
        ({"prompt": "안녕"}, "prompt"),
        ({"response_format": "srt"}, "response_format"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"language": "kr"}, "Did you mean 'ko'"),
        ({"no_such_thing": "1"}, "no_such_thing"),
        ({"model": "talker"}, "writes text"),
        ({"model": "nobody"}, "nobody"),
    ],
    ids=str,
)
def test_what_is_not_done_is_an_error_that_names_it(served: Served, data: dict[str, str], word: str) -> None:
    response = served.http.post(PATH, files={"file": noise(0.1)}, data=data)
    assert response.status_code in (400, 404)
    assert word in response.json()["error"]["message"]


def test_a_field_that_is_twice_in_a_form_is_refused(served: Served) -> None:
    response = served.http.post(PATH, files={"file": noise(0.1)}, data={"model": ["talker", "whisper"]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


def test_what_is_no_sound_is_refused(served: Served) -> None:
    with pytest.raises(openai.BadRequestError):
        served.openai.audio.transcriptions.create(model="whisper", file=("a.wav", b"no sound"))
    assert served.post(PATH, model="whisper").json()["error"]["param"] == "file"
    response = served.http.post(
        PATH, content=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert response.status_code == 400


def test_a_sound_whose_client_has_left_is_not_heard_to_its_end(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcriber, long, short = served.models["whisper"], noise(100), noise(1)
    hidden, seconds, num_tokens = transcriber.model.hidden, 0.0, 0

    def counted(*args: Any) -> Any:
        nonlocal num_tokens
        num_tokens += 1
        time.sleep(seconds)
        return hidden(*args)

    monkeypatch.setattr(transcriber.model, "hidden", counted)
    alone = transcriber.transcribe(short, language="ko")
    transcriber.transcribe(long, language="ko")
    num_of_both, num_tokens, seconds = num_tokens, 0, 0.5

    request = httpx.Request("POST", served.url + PATH, files={"file": long}, data={"language": "ko"})
    with served.send(PATH, request.read(), Content_Type=request.headers["Content-Type"]):
        wait_until(lambda: num_tokens)
    found = served.http.post(PATH, files={"file": short}, data={"language": "ko"})
    assert found.json()["text"] == alone.text
    assert num_tokens < num_of_both
