"""Images and sounds in a chat: a tiny LLaVA answers what transformers makes of the same messages and files."""

import asyncio
import base64
import io
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from malmoi.core.errors import CheckpointError, MediaError, RequestError, TemplateError
from malmoi.engine import Request, SamplingParams
from malmoi.llm import LLM, AsyncLLM, Completion, load
from malmoi.llm.media import MAX_FILES, ROWS_AT_ONCE, MediaReader
from malmoi.media import ImageProcessor, SoundProcessor, load_image, load_sound, save_processors
from malmoi.media.image_processor import ShortestEdge
from malmoi.media.sources import MediaSource
from malmoi.models import build_model, initialise, save_model
from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.llava import LlavaConfig
from malmoi.models.omni import OmniConfig
from malmoi.nn.audio import num_sound_features
from malmoi.testing.models import IMAGE_TOKEN, tiny_llava, tiny_llm
from malmoi.testing.tokenizer import SPECIAL_TOKENS, ByteTokenizer
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer

# As that of LLaVA-1.5: all images of a message before its text.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
PROCESSOR = ImageProcessor(
    resize=ShortestEdge(pixels=8), crop=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
)
GREEDY = SamplingParams(temperature=0, max_tokens=12, logit_bias={IMAGE_TOKEN: -100})


def picture(seed: int, shape: tuple[int, int] = (12, 9)) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def says(*parts: str | bytes | Path, role: str = "user") -> dict[str, Any]:
    """A message: text as strings, images as bytes or paths."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
        for part in parts
    ]
    return {"role": role, "content": content}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with all that a published one has beside its weights."""
    path = tmp_path_factory.mktemp("llava")
    save_model(tiny_llava(), path)
    ByteTokenizer([*SPECIAL_TOKENS, "<image>"]).save(path)
    ChatTemplate(TEMPLATE).save(path)
    save_processors(path, image=PROCESSOR)
    return path


@pytest.fixture
def llm(directory: Path) -> LLM:
    return load(directory)


@pytest.fixture
def asked(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that reach the engine."""
    requests: list[Request] = []
    add = llm.engine.scheduler.add
    monkeypatch.setattr(llm.engine.scheduler, "add", lambda request: requests.append(request) or add(request))
    return requests


@pytest.mark.parametrize(
    "messages",
    [
        [says(picture(0), "무엇이 보여?")],
        [says("두 장을 비교해.", picture(1), picture(2, (8, 30)))],
        [says(picture(3), "이건?"), says("고양이.", role="assistant"), says("그럼 이건?", picture(4))],
        [says("안녕?")],
    ],
    ids=["an image", "two images", "images in two turns", "none"],
)
def test_an_answer_about_images_is_the_references(
    directory: Path, llm: LLM, asked: list[Request], messages: list[dict[str, Any]]
) -> None:
    theirs = LlavaForConditionalGeneration.from_pretrained(directory).eval()
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 8}, crop_size=8, image_mean=PROCESSOR.mean, image_std=PROCESSOR.std
        ),
        tokenizer=PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json")),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    images = [part["image"] for message in messages for part in message["content"] if "image" in part]
    inputs = processor(
        images=[Image.open(io.BytesIO(image)) for image in images] or None,
        text=processor.apply_chat_template(messages, add_generation_prompt=True),
        return_tensors="pt",
    )
    inputs.pop("token_type_ids", None)
    wanted = theirs.generate(
        **inputs, max_new_tokens=12, do_sample=False, suppress_tokens=[IMAGE_TOKEN], pad_token_id=0
    )
    answer = llm.chat(messages, GREEDY)
    [request] = asked
    assert list(request.tokens) == inputs["input_ids"][0].tolist()
    assert answer.tokens == wanted[0, len(request.tokens) :].tolist()
    assert answer.usage.prompt_tokens == len(request.tokens)


def test_a_coroutine_gets_the_same_answers_about_images(llm: LLM) -> None:
    talk = [says("두 장을 비교해.", picture(1), picture(2))]
    wanted = [llm.generate("이건?", GREEDY, images=[picture(0)]), llm.chat(talk, GREEDY)]

    async def main() -> list[Completion]:
        async with AsyncLLM(llm) as ours:
            with pytest.raises(MediaError):
                await ours.generate("이건?", images=[b"no image"])
            return await asyncio.gather(
                ours.generate("이건?", GREEDY, images=[picture(0)]), ours.chat(talk, GREEDY)
            )

    assert asyncio.run(main()) == wanted


def as_url(data: bytes) -> str:
    return "data:;base64," + base64.b64encode(data).decode()


def asks(*parts: object) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": list(parts)}]


def test_a_path_bytes_a_data_url_and_openais_shape_are_the_same_image(llm: LLM, tmp_path: Path) -> None:
    data = picture(0)
    (tmp_path / "one.png").write_bytes(data)
    url = as_url(data)
    parts = [{"type": "image", "image": image} for image in (data, tmp_path / "one.png", url)]
    parts += [
        {"type": "image_url", "image_url": shape} for shape in ({"url": url}, {"url": url, "detail": "auto"})
    ]
    answers = [llm.chat(asks(part), GREEDY) for part in parts]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] != llm.chat(asks({"type": "image", "image": picture(1)}), GREEDY)


def test_a_format_that_looks_for_keys_shows_an_image_however_it_is_spelled(
    llm: LLM, asked: list[Request]
) -> None:
    looking = ChatTemplate(  # as Qwen's does
        "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' or 'image' in part "
        "or 'image_url' in part %}<image>{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    other = LLM(llm.model, llm.tokenizer, template=looking, image_processor=PROCESSOR)
    other.engine = llm.engine
    url = as_url(picture(0))
    for part in ({"type": "image", "image": url}, {"type": "image_url", "image_url": {"url": url}}):
        other.chat(asks(part, {"type": "text", "text": "?"}), GREEDY)
    for request in asked:
        assert [(attachment.start, attachment.end) for attachment in request.attachments] == [(0, 4)]
        assert list(request.tokens) == [IMAGE_TOKEN] * 4 + llm.tokenizer.encode("?")
    assert len(asked) == 2


@pytest.mark.parametrize("make", [str, lambda path: f"file://{path}", lambda path: path.as_uri().upper()])
def test_a_string_in_a_message_opens_no_file_and_does_not_say_whether_there_is_one(
    llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    there, missing = tmp_path / "one.png", tmp_path / "two.png"
    there.write_bytes(picture(0))
    monkeypatch.setattr(Path, "open", lambda *_args: pytest.fail("was opened"))
    errors = []
    for path in (there, missing):
        for part in (
            {"type": "image", "image": make(path)},
            {"type": "image_url", "image_url": {"url": make(path)}},
        ):
            with pytest.raises(
                MediaError, match=r"not a data: URL. A string opens no file.*pathlib\.Path"
            ) as caught:
                llm.chat(asks(part))
            errors.append(str(caught.value))
    assert len(set(errors)) == 1


def test_images_stand_before_a_text_that_is_gone_on_from(llm: LLM, asked: list[Request]) -> None:
    images = [picture(0), picture(1)]
    answer = llm.generate("글", GREEDY, images=images)
    assert list(llm.stream("글", GREEDY, images=images))
    for request in asked:
        assert list(request.tokens) == [IMAGE_TOKEN] * 8 + llm.tokenizer.encode("글")
        assert [attachment.start for attachment in request.attachments] == [0, 4]
    assert answer != llm.generate("글", GREEDY)


def with_plain_placeholder(tokenizer: Tokenizer) -> Tokenizer:
    """The same, as a file that does not call the placeholder special."""
    content = json.loads(tokenizer.backend.to_str())
    content["added_tokens"][IMAGE_TOKEN]["special"] = False
    return Tokenizer(json.dumps(content), tokenizer.config)


@pytest.mark.parametrize(
    "change", [lambda tokenizer: tokenizer, with_plain_placeholder], ids=["special", "not special"]
)
def test_nobody_can_write_a_placeholder(llm: LLM, asked: list[Request], change: Any) -> None:
    llm.tokenizer = change(llm.tokenizer)
    llm.chat([says(picture(0), "<image> 무엇이 보여? <image>")], GREEDY)
    llm.generate("<image>", GREEDY)
    llm.generate("<image>?", GREEDY, images=[picture(0)])
    assert [list(request.tokens).count(IMAGE_TOKEN) for request in asked] == [4, 0, 4]
    assert asked[1].tokens == tuple(ByteTokenizer([*SPECIAL_TOKENS, "<image>"]).encode("<image>"))


def test_a_broken_image_is_refused_before_anything_starts(llm: LLM, asked: list[Request]) -> None:
    with pytest.raises(MediaError, match="no PNG, JPEG or WebP"):
        llm.chat([says(picture(0), b"GIF89a...")], GREEDY)
    assert asked == []


URL = as_url(picture(0))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "image", "url": URL}, "has the type 'image' and the keys type, url,"),
        ({"type": "image", "image": URL, "text": "?"}, "the keys type, image, text"),
        ({"type": "image", "image": Image.new("RGB", (2, 2))}, "the keys type, image"),
        ({"type": "image_url", "image_url": URL}, "the keys type, image_url"),
        ({"type": "image_url", "image_url": {"url": URL, "detail": "high"}}, "the keys type, image_url"),
        ({"type": "image_url", "image_url": {"url": URL}, "image": URL}, "the keys type, image_url, image"),
        ({"type": "audio", "audio": 3}, "has the type 'audio'"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}}, "has the type 'input_audio'"),
        ({"type": "text", "text": "?", "image": "x"}, "the keys type, text, image"),
        ({"type": "text", "text": "?", "image_url": "x"}, "the keys type, text, image_url"),
        ({"type": "text"}, "has the type 'text' and the keys type,"),
        ({"type": "video", "video": URL}, "has the type 'video'"),
        ({"type": ["image"], "image": URL}, "the keys type, image"),
        ({"image": URL}, "has the type None and the keys image,"),
        ("<image>", "is of the type str"),
        (picture(0), "is of the type bytes"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_part_that_is_not_known_is_refused_by_its_keys_and_never_passed_over(
    llm: LLM, asked: list[Request], part: object, told: str
) -> None:
    with pytest.raises(
        TemplateError, match=f"a part of a message .*{told}.* not one that is known. Write"
    ) as caught:
        llm.chat(asks({"type": "text", "text": "?"}, part))
    assert URL[20:40] not in str(caught.value)
    assert asked == []


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"content": {"type": "image", "image": URL}}, "the content of a message is of the type dict"),
        ({"content": picture(0)}, "the content of a message is of the type bytes"),
        ({"content": "?", "images": [URL]}, "the key 'images' beside its content"),
        ({"content": "?", "audio": {"id": "1"}}, "the key 'audio' beside its content"),
    ],
    ids=["a part alone", "bytes", "images beside", "audio beside"],
)
def test_a_file_that_is_not_in_a_list_of_parts_is_refused(
    llm: LLM, message: dict[str, Any], told: str
) -> None:
    with pytest.raises(TemplateError, match=told):
        llm.chat([{"role": "user", **message}])


def test_text_is_text_in_parts_or_not(llm: LLM) -> None:
    chatml = LLM(
        llm.model,
        llm.tokenizer,
        template=ChatTemplate(
            "{% for m in messages %}{% if m.content is string %}"
            "{{ m.content }}{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{% endfor %}"
        ),
    )
    parts = [{"type": "text", "text": "안녕"}, {"type": "text", "text": "?"}]
    whole = {"role": "user", "content": "안녕?", "images": None}
    assert chatml.chat([{"role": "user", "content": tuple(parts)}], GREEDY) == chatml.chat([whole], GREEDY)


def test_a_chat_format_that_shows_no_images_is_refused() -> None:
    blind = ChatTemplate("{% for message in messages %}{{ message['role'] }}{% endfor %}")
    model, tokenizer = tiny_llava(), ByteTokenizer([*SPECIAL_TOKENS, "<image>"])
    llm = LLM(model, tokenizer, template=blind, image_processor=PROCESSOR)
    with pytest.raises(RequestError, match="has 0 places for images .id 3., and 1 were given"):
        llm.chat([says(picture(0))], GREEDY)


def test_a_chat_format_that_shows_images_where_none_are_is_refused() -> None:
    dreaming = ChatTemplate("<image>{% for message in messages %}{{ message['role'] }}{% endfor %}")
    model, tokenizer = tiny_llava(), ByteTokenizer([*SPECIAL_TOKENS, "<image>"])
    llm = LLM(model, tokenizer, template=dreaming, image_processor=PROCESSOR)
    with pytest.raises(RequestError, match="has 1 places for images .id 3., and 0 were given"):
        llm.chat([says("?")], GREEDY)


def test_what_a_model_does_not_take_is_said(llm: LLM) -> None:
    with pytest.raises(RequestError, match="this model takes no images, but text alone"):
        tiny_llm().generate("?", images=[picture(0)])
    with pytest.raises(RequestError, match="this model takes no audio, but images"):
        llm.generate("?", audio=[noise(0)])
    with pytest.raises(RequestError, match="there are several. Ask one by one"):
        llm.generate(["하나", "둘"], images=[picture(0)])  # type: ignore[call-overload]
    with pytest.raises(RequestError, match="in a conversation images and audio are parts of messages"):
        llm.stream([says("?")], images=[picture(0)])


@pytest.fixture
def as_without_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations are no assertions, as they are for whoever uses the package."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("as_without_tests")
@pytest.mark.parametrize(
    "images", ["cat.png", b"\x89PNG", Path("cat.png"), np.zeros((2, 8, 8, 3)), {"a": 1}], ids=str
)
@pytest.mark.parametrize("ask", ["generate", "stream"])
def test_files_that_are_not_in_a_list_are_refused(llm: LLM, ask: str, images: Any) -> None:
    with pytest.raises(
        RequestError, match=f"images=... is of the type {type(images).__name__}, not a list. Give a"
    ):
        getattr(llm, ask)("?", images=images)


@pytest.mark.usefixtures("as_without_tests")
@pytest.mark.parametrize(
    "image", [3, None, Image.new("RGB", (2, 2)), bytearray(picture(0))], ids=lambda x: type(x).__name__
)
def test_what_is_no_file_is_refused_by_its_type(llm: LLM, image: Any) -> None:
    with pytest.raises(
        MediaError, match=f"^{type(image).__name__} is no image or sound. Give a path, the bytes of"
    ):
        llm.generate("?", images=[image])


@pytest.mark.usefixtures("as_without_tests")
def test_messages_go_to_chat_and_texts_to_generate(llm: LLM) -> None:
    message: Any = {"role": "user", "content": "?"}
    for wrong in ([message], message, [["?"]], 3):
        with pytest.raises(
            RequestError, match="generate takes a text, or a list of texts. Messages go to chat"
        ):
            llm.generate(wrong)
    for wrong in ("안녕?", message):
        with pytest.raises(
            RequestError, match=f"a list of messages, not {type(wrong).__name__}. A text goes to"
        ):
            llm.chat(wrong)


def test_what_has_no_room_in_the_context_is_refused_before_an_image_is_read(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "?" * (127 - 4 * 30)
    assert llm.generate(text, replace(GREEDY, max_tokens=1), images=[picture(0)] * 30).tokens
    monkeypatch.setattr("malmoi.llm.media.load_image", lambda _source: pytest.fail("was read"))
    with pytest.raises(
        RequestError, match="the prompt has 128 tokens or more, but the model's context has room for 128"
    ):
        llm.generate(text + "?", images=[picture(0)] * 30)
    with pytest.raises(RequestError, match="the prompt has 131 tokens or more"):
        llm.generate(text, images=[picture(0)] * 31)


def test_more_files_than_allowed_are_refused_before_anything_is_done_with_them(llm: LLM) -> None:
    assert MAX_FILES == 64
    for docstring in (LLM.chat.__doc__, LLM.generate.__doc__):
        assert "64" in str(docstring)
    for ask in (
        lambda: llm.generate("?", images=[b"no image"] * 65),
        lambda: llm.chat([says(*[b"no image"] * 65)]),
    ):
        with pytest.raises(RequestError, match="the request has 65 images and sounds, and 64 are allowed"):
            ask()


def test_without_a_processor_it_still_reads_text(directory: Path, tmp_path: Path) -> None:
    save_model(tiny_llava(), tmp_path)
    ByteTokenizer([*SPECIAL_TOKENS, "<image>"]).save(tmp_path)
    llm = load(tmp_path)
    assert llm.generate("글", GREEDY).tokens == load(directory).generate("글", GREEDY).tokens
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config.json"):
        llm.generate("글", images=[picture(0)])


def features(reader: MediaReader, *files: tuple[str, bytes]) -> list[torch.Tensor]:
    """What stands in a prompt of files, each with its medium."""
    media: dict[str, list[MediaSource]] = {}
    for medium, file in files:
        media.setdefault(medium, []).append(file)
    _ids, attachments = reader.place([reader.placeholders[medium] for medium, _ in files], media)
    return [attachment.features for attachment in attachments]


@torch.inference_mode()
def test_images_are_seen_alike_alone_and_together_and_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_llava()
    reader = MediaReader(model, image_processor=PROCESSOR)
    files = [("images", picture(seed)) for seed in range(ROWS_AT_ONCE + 2)]
    seen: list[int] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda images: seen.append(len(images)) or encode(images=images))
    together = features(reader, *files)
    assert seen == [ROWS_AT_ONCE, 2]
    for file, found in zip(files, together, strict=True):
        torch.testing.assert_close(found, features(reader, file)[0], rtol=0, atol=1e-5)


# --- images and sounds together ----------------------------------------------------------------------------

SOUND_TOKEN = IMAGE_TOKEN + 1
EAR = SoundProcessor(num_mels=5, chunk_seconds=1)  # 100 frames, 25 features


def noise(seed: int, seconds: float = 0.5) -> bytes:
    """A WAV of noise."""
    samples = np.random.default_rng(seed).normal(size=int(seconds * 16_000)) / 10
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """An omni model with its two processors, from a directory."""
    seeing = tiny_llava().config
    ear = AudioTowerConfig(
        num_mels=5, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, max_positions=50
    )
    parts = {field.name: getattr(seeing, field.name) for field in fields(LlavaConfig)}
    parts["text"] = replace(seeing.text, vocab_size=261)
    config = OmniConfig(**parts, audio=ear, audio_token=SOUND_TOKEN)
    path = tmp_path_factory.mktemp("omni")
    save_model(initialise(build_model(config), seed=0, std=0.3), path)
    ByteTokenizer([*SPECIAL_TOKENS, "<image>", "<sound>"]).save(path)
    ChatTemplate(
        "{% for message in messages %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% elif 'audio' in part %}<sound>{% endif %}{{ part['text'] }}"
        "{% endfor %}{% endfor %}"
    ).save(path)
    save_processors(path, image=PROCESSOR, sound=EAR)
    return load(path)


@pytest.mark.parametrize("seconds", [0.5, 1.3])  # the second is two chunks
@torch.inference_mode()
def test_images_and_sounds_stand_where_the_chat_shows_them(omni: LLM, seconds: float) -> None:
    sound, image = EAR(load_sound(noise(1, seconds))), PROCESSOR(load_image(picture(2)))
    content = [
        {"type": "text", "text": "가"},
        {"type": "audio", "audio": noise(1, seconds)},
        {"type": "text", "text": "나"},
        {"type": "image", "image": picture(2)},
        {"type": "text", "text": "?"},
    ]
    params = replace(GREEDY, logit_bias={IMAGE_TOKEN: -100, SOUND_TOKEN: -100})
    answer = omni.chat([{"role": "user", "content": content}], params)
    num_sounds = sum(num_sound_features(int(frames)) for frames in sound.mask.sum(axis=1))
    first, second, third = (omni.tokenizer.encode(text) for text in ("가", "나", "?"))
    ids = [*first, *[SOUND_TOKEN] * num_sounds, *second, *[IMAGE_TOKEN] * 4, *third]
    media = {"images": image[None], "audio": sound.mel, "audio_mask": sound.mask}
    inputs = {name: torch.from_numpy(array) for name, array in media.items()}
    for token in answer.tokens:
        logits = omni.model(torch.tensor([ids]), **inputs).logits[0, -1]
        logits = torch.where(torch.isin(torch.arange(261), torch.tensor([3, 4])), -torch.inf, logits)
        assert token == int(logits.argmax())
        ids.append(token)


def test_sounds_are_heard_alike_alone_and_together_and_a_few_chunks_at_a_time(
    omni: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = MediaReader(omni.model, image_processor=PROCESSOR, sound_processor=EAR)
    files = [("audio", noise(seed, seconds)) for seed, seconds in enumerate((0.5, 1.3, 1.0))]
    monkeypatch.setattr("malmoi.llm.media.ROWS_AT_ONCE", 2)  # the second sound's chunks come apart
    together = features(reader, files[0], ("images", picture(2)), *files[1:])
    assert [len(found) for found in together] == [12, 4, 25 + 7, 25]
    assert together[1].equal(features(reader, ("images", picture(2)))[0])
    monkeypatch.undo()
    for file, found in zip(files, [together[0], *together[2:]], strict=True):
        torch.testing.assert_close(found, features(reader, file)[0], rtol=0, atol=1e-5)


def test_openais_sound_is_the_same_sound(omni: LLM) -> None:
    data = base64.b64encode(noise(1)).decode()
    shapes = [
        {"type": "audio", "audio": noise(1)},
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": f"data:audio/wav;base64,{data}", "format": "wav"}},
    ]
    params = replace(GREEDY, logit_bias={IMAGE_TOKEN: -100, SOUND_TOKEN: -100})
    answers = [omni.chat(asks(part, {"type": "text", "text": "?"}), params) for part in shapes]
    assert answers[0] == answers[1] == answers[2]
    with pytest.raises(MediaError, match="is not base64"):
        omni.chat(asks({"type": "input_audio", "input_audio": {"data": "/etc/passwd", "format": "wav"}}))


def test_a_sound_that_makes_no_feature_is_refused(omni: LLM) -> None:
    assert omni.generate("?", replace(GREEDY, max_tokens=1), audio=[noise(0, 0.021)]).tokens
    with pytest.raises(MediaError, match="sound 2 is so short, 320 samples, that the model does not hear it"):
        omni.generate("?", audio=[noise(0), noise(0, 0.02)])


def test_a_sound_that_has_no_room_is_refused_before_its_spectrogram_is_computed(
    omni: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SoundProcessor, "__call__", lambda _self, _sound: pytest.fail("was computed"))
    with pytest.raises(
        RequestError, match="the prompt has 151 tokens or more, but the model's context has room for 128"
    ):
        omni.generate("?", audio=[noise(0, 6.0)])
