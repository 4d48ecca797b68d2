"""The model that ships in the package: an ordinary Hugging Face directory that answers in Korean and stops."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import malmoi
from malmoi.data.held_out import ByteCounter, bits_per_byte
from malmoi.data.pack import PackedStream
from malmoi.data.samples import Encoder
from malmoi.data.sources import SourceConfig
from malmoi.nn.context import Context
from malmoi.text.chat import ChatTemplate
from malmoi.text.hangul import num_syllables
from malmoi.train.losses import ChunkedCrossEntropy

QUESTIONS = ["안녕하세요?", "너는 누구야?", "대한민국의 수도는 어디야?", "오늘 너무 피곤해.", "고마워"]
CONVERSATION = [{"role": "user", "content": "안녕하세요?"}]


@pytest.fixture(scope="module")
def directory() -> Path:
    return malmoi.default_model()


@pytest.fixture(scope="module")
def llm() -> malmoi.LLM:
    return malmoi.load()


def test_all_files_together_fit_into_forty_megabytes(directory: Path) -> None:
    assert sum(file.stat().st_size for file in directory.iterdir()) <= 40e6


def test_no_folder_of_the_machine_that_trained_it_is_in_its_files(directory: Path) -> None:
    run = json.loads((directory / "malmoi.json").read_text("utf-8"))
    strings = [value for value in _leaves(run) if isinstance(value, str)]
    assert strings
    assert not [value for value in strings if value.startswith(("/", "~", "."))]


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for item in inner for leaf in _leaves(item)]
    return [value]


def test_transformers_loads_it_and_its_logits_are_ours(directory: Path) -> None:
    tokens = torch.tensor([malmoi.Tokenizer.load(directory).encode("말모이는 우리말 사전의 이름이다.")])
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    ours = malmoi.load_model(directory, dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(tokens).logits
        torch.testing.assert_close(
            ours(tokens).logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item()
        )


def test_transformers_tokenizer_gives_the_same_ids_and_the_same_chat(directory: Path) -> None:
    theirs, ours = AutoTokenizer.from_pretrained(directory), malmoi.Tokenizer.load(directory)
    text = "Python은 1991년에 나왔다. ㅋㅋㅋ 정말? 👩‍💻\n\n훈민정음 def f(x): return x"
    assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
    rendered = ChatTemplate.load(directory).render(CONVERSATION, ours, add_generation_prompt=True)
    expected = theirs.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=False)
    assert rendered.text == expected


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_answers_in_korean_and_stops(llm: malmoi.LLM, question: str) -> None:
    params = malmoi.SamplingParams(temperature=0, repetition_penalty=1.1, max_tokens=150)
    answer = llm.chat([{"role": "user", "content": question}], params)
    letters = [character for character in answer.text if character.isalpha()]
    assert answer.finish_reason == "stop"
    assert num_syllables(answer.text) >= 0.8 * len(letters) > 0
    assert answer.text.rstrip().endswith((".", "!", "?", "요", "다"))


def test_korean_prose_costs_at_most_the_bits_that_the_card_promises(directory: Path, llm: malmoi.LLM) -> None:
    # Rows that training may have seen: a guard against broken weights, not a benchmark (that is the model card).
    tokenizer, model = malmoi.Tokenizer.load(directory), malmoi.load_model(directory, dtype=torch.float32)
    sample = Path(__file__).parents[1] / "sample" / "prose.jsonl.zst"
    source = SourceConfig(path=str(sample), include=("ko.wikipedia.org",), holdout_permille=0)
    stream = PackedStream(
        [source], Encoder(tokenizer=tokenizer), tokens_per_batch=2048, context_length=model.max_positions
    )
    batch = next(stream)
    with torch.no_grad():
        hidden = model.hidden(batch.tokens, Context.packed(batch.lengths, specs=model.cache_specs()))
        nats = ChunkedCrossEntropy()(hidden, model.head.weight, batch.targets).item()
    assert bits_per_byte(nats, ByteCounter(tokenizer).count(batch.targets)) < 1.25
