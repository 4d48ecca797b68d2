"""Images and sounds in a chat: a tiny LLaVA answers what transformers makes of the same messages and files."""

import base64
import io
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from malmoi.core.errors import CheckpointError, MediaError, RequestError, TemplateError
from malmoi.engine import Request, SamplingParams
from malmoi.llm import LLM, load
from malmoi.llm.media import MediaReader
from malmoi.media import ImageProcessor, SoundProcessor, load_image, load_sound, save_processors
from malmoi.media.image_processor import ShortestEdge
from malmoi.models import build_model, initialise, save_model
from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.llava import LlavaConfig
from malmoi.models.omni import OmniConfig
from malmoi.nn.audio import num_sound_features
from malmoi.testing.models import IMAGE_TOKEN, tiny_llava, tiny_llm
from malmoi.testing.tokenizer import SPECIAL_TOKENS, ByteTokenizer
from malmoi.text.chat import ChatTemplate

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
    add = llm.engine.add
    monkeypatch.setattr(llm.engine, "add", lambda request: requests.append(request) or add(request))
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


def test_a_path_bytes_and_a_data_url_are_the_same_image(llm: LLM, tmp_path: Path) -> None:
    data = picture(0)
    (tmp_path / "one.png").write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    answers = [
        llm.chat([{"role": "user", "content": [{"type": "image", "image": image}]}], GREEDY)
        for image in (data, tmp_path / "one.png", str(tmp_path / "one.png"), url)
    ]
    assert all(answer == answers[0] for answer in answers)


def test_images_stand_before_a_text_that_is_gone_on_from(llm: LLM, asked: list[Request]) -> None:
    images = [picture(0), picture(1)]
    answer = llm.generate("글", GREEDY, images=images)
    assert list(llm.stream("글", GREEDY, images=images))
    for request in asked:
        assert list(request.tokens) == [IMAGE_TOKEN] * 8 + llm.tokenizer.encode("글")
        assert [attachment.start for attachment in request.attachments] == [0, 4]
    assert answer != llm.generate("글", GREEDY)


def test_nobody_can_write_a_placeholder(llm: LLM, asked: list[Request]) -> None:
    llm.chat([says(picture(0), "<image> 무엇이 보여? <image>")], GREEDY)
    llm.generate("<image>", GREEDY)
    assert [list(request.tokens).count(IMAGE_TOKEN) for request in asked] == [4, 0]


def test_a_broken_image_is_refused_before_anything_starts(llm: LLM, asked: list[Request]) -> None:
    with pytest.raises(MediaError, match="no PNG, JPEG or WebP"):
        llm.chat([says(picture(0), b"GIF89a...")], GREEDY)
    assert asked == []


@pytest.mark.parametrize(
    "part",
    [{"type": "image", "url": "cat.png"}, {"type": "audio", "audio": 3}],
    ids=lambda part: part["type"],
)
def test_a_part_without_its_file_is_refused(llm: LLM, part: dict[str, Any]) -> None:
    with pytest.raises(
        TemplateError, match=rf"of the type {part['type']}, and is .* a path, bytes or a data: URL"
    ):
        llm.chat([{"role": "user", "content": [part]}])


def test_a_chat_format_that_shows_no_images_is_refused() -> None:
    blind = ChatTemplate("{% for message in messages %}{{ message['role'] }}{% endfor %}")
    model, tokenizer = tiny_llava(), ByteTokenizer([*SPECIAL_TOKENS, "<image>"])
    llm = LLM(model, tokenizer, template=blind, image_processor=PROCESSOR)
    with pytest.raises(RequestError, match="has 0 places for images .id 3., and 1 were given"):
        llm.chat([says(picture(0))], GREEDY)


def test_what_a_model_does_not_take_is_said(llm: LLM) -> None:
    with pytest.raises(RequestError, match="this model takes no images, but text alone"):
        tiny_llm().generate("?", images=[picture(0)])
    with pytest.raises(RequestError, match="this model takes no audio, but images"):
        llm.generate("?", audio=[noise(0)])
    with pytest.raises(RequestError, match="there are several. Ask one by one"):
        llm.generate(["하나", "둘"], images=[picture(0)])  # type: ignore[call-overload]
    with pytest.raises(RequestError, match="in a conversation images and audio are parts of messages"):
        llm.stream([says("?")], images=[picture(0)])


def test_without_a_processor_it_still_reads_text(directory: Path, tmp_path: Path) -> None:
    save_model(tiny_llava(), tmp_path)
    ByteTokenizer([*SPECIAL_TOKENS, "<image>"]).save(tmp_path)
    llm = load(tmp_path)
    assert llm.generate("글", GREEDY).tokens == load(directory).generate("글", GREEDY).tokens
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config.json"):
        llm.generate("글", images=[picture(0)])


@torch.inference_mode()
def test_images_are_seen_alike_alone_and_together() -> None:
    reader = MediaReader(tiny_llava(), image_processor=PROCESSOR)
    together = reader.features("images", [picture(seed) for seed in range(3)])
    for seed, features in enumerate(together):
        alone = reader.features("images", [picture(seed)])[0]
        torch.testing.assert_close(features, alone, rtol=0, atol=1e-5)


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
