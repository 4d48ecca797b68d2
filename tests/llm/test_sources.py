"""Encoder-decoders as an LLM: the prompt is what the encoder reads, the answer what the decoder writes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from click.testing import CliRunner
from tokenizers import processors

from malmoi.cli.generate import generate
from malmoi.core.errors import CheckpointError, ConfigError, RequestError, TemplateError
from malmoi.engine import SamplingParams
from malmoi.llm import LLM, load
from malmoi.models import build_model, save_model, whisper
from malmoi.testing.models import VOCAB_SIZE, tiny_llama, tiny_llm, tiny_t5
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate
from malmoi.text.stream import DecodeStream

TOKENIZER = ByteTokenizer()
END = TOKENIZER.special_tokens["<|endoftext|>"]
START, FORCED = TOKENIZER.special_tokens["<|im_start|>"], TOKENIZER.special_tokens["<|im_end|>"]
GREEDY = SamplingParams(temperature=0, max_tokens=16)
SEEDED = SamplingParams(seed=7, max_tokens=16)


def written(llm: LLM, source: Sequence[int], opening: Sequence[int], num_tokens: int) -> list[int]:
    """Greedy, without an engine and without a cache."""
    ids = list(opening)
    for _ in range(num_tokens):
        with torch.inference_mode():
            out = llm.model(torch.tensor([list(source)]), decoder_tokens=torch.tensor([ids]))
        ids.append(int(out.logits[0, -1].argmax()))
    return ids[len(opening) :]


def test_the_prompt_is_the_source_and_the_answer_is_what_the_decoder_writes() -> None:
    llm = tiny_llm(tiny_t5())
    completion = llm.generate("안녕", GREEDY)
    assert completion.tokens == written(llm, TOKENIZER.encode("안녕"), [END], len(completion.tokens))
    stream = DecodeStream(TOKENIZER)
    text = "".join(stream.push(token) for token in completion.tokens if token != END) + stream.finish()
    assert completion.text == text
    assert completion.usage.prompt_tokens == len(TOKENIZER.encode("안녕")) + 1


def test_several_prompts_at_once_are_what_they_are_alone() -> None:
    llm = tiny_llm(tiny_t5())
    prompts = ["안녕", "말", "아주 긴 문장을 하나 써 보자."]
    alone = [llm.generate(prompt, SEEDED) for prompt in prompts]
    assert llm.generate(prompts, SEEDED) == alone
    assert len({completion.text for completion in alone}) == 3


def test_the_pieces_of_a_stream_are_the_answer_and_closing_it_frees_its_blocks() -> None:
    llm = tiny_llm(tiny_t5())
    stream = llm.stream("안녕", SEEDED)
    assert "".join(stream) == llm.generate("안녕", SEEDED).text
    assert stream.completion == llm.generate("안녕", SEEDED)
    stream = llm.stream("안녕", SamplingParams(seed=1, ignore_eos=True))
    next(stream)
    stream.close()
    assert llm.engine.scheduler.num_blocks_in_use == 0


def test_a_chat_is_rendered_for_the_encoder_to_read() -> None:
    llm = tiny_llm(tiny_t5())
    messages = [{"role": "user", "content": "안녕?"}]
    rendered = ChatTemplate.default().render(messages, TOKENIZER, add_generation_prompt=True)
    assert llm.chat(messages, GREEDY).tokens == written(
        llm, rendered.ids, [END], len(llm.chat(messages, GREEDY).tokens)
    )


def test_without_a_chat_format_it_answers_but_does_not_chat() -> None:
    llm = LLM(tiny_t5(), TOKENIZER, answer_opening=[END])
    assert llm.generate("안", GREEDY)
    with pytest.raises(TemplateError, match="without a chat template"):
        llm.chat([{"role": "user", "content": "안녕?"}])


def test_a_prompt_longer_than_the_encoder_reads_is_refused_at_once_with_the_sizes() -> None:
    with pytest.raises(
        RequestError, match=r"the source has 150 tokens, but the model's encoder has room for 128"
    ):
        tiny_llm(tiny_t5()).stream("가" * 50)


@pytest.mark.parametrize(("make", "opening"), [(tiny_t5, []), (tiny_llama, [END])])
def test_an_encoder_decoder_and_nothing_else_has_tokens_to_start_with(make: Any, opening: list[int]) -> None:
    with pytest.raises(ConfigError, match="an encoder-decoder needs the token that its decoder starts with"):
        LLM(make(), TOKENIZER, answer_opening=opening)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A checkpoint of a model and a tokenizer that puts a token before a text and one behind it, as BART's does."""
    save_model(tiny_t5(), tmp_path)
    TOKENIZER.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = tokenizers.Tokenizer.from_file(str(file))
    content.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|endoftext|>",
        special_tokens=[("<|im_start|>", START), ("<|endoftext|>", END)],
    )
    content.save(str(file))
    change(tmp_path / "generation_config.json", decoder_start_token_id=END)
    return tmp_path


def change(file: Path, **values: Any) -> None:
    old = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps(old | values), "utf-8")


def test_a_text_begins_and_ends_as_in_transformers(directory: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(directory)
    for text in ("한글은", ""):
        assert load(directory).prompt_ids(text) == theirs(text)["input_ids"]


def test_a_text_ends_with_eos_if_the_tokenizers_configuration_says_so(directory: Path) -> None:
    TOKENIZER.save(directory)
    assert load(directory).prompt_ids("가") == TOKENIZER.encode("가")
    change(directory / "tokenizer_config.json", eos_token="<|im_end|>", add_eos_token=True)
    assert load(directory).prompt_ids("가") == [*TOKENIZER.encode("가"), FORCED]


def test_what_is_loaded_answers_as_transformers_does(directory: Path) -> None:
    from transformers import T5ForConditionalGeneration

    change(directory / "generation_config.json", forced_bos_token_id=FORCED)
    llm = load(directory)
    theirs: Any = T5ForConditionalGeneration.from_pretrained(directory)
    source = torch.tensor([llm.prompt_ids("한글은")])
    wanted = theirs.generate(
        source, attention_mask=torch.ones_like(source), max_new_tokens=13, do_sample=False, pad_token_id=0
    )
    answer = llm.generate("한글은", SamplingParams(temperature=0, max_tokens=12, ignore_eos=True))
    assert [END, FORCED, *answer.tokens] == wanted[0].tolist()


@pytest.mark.parametrize(
    "keys",
    [
        {"max_length": 12},
        {"max_length": 12, "forced_bos_token_id": FORCED},
        {"max_length": 30, "max_new_tokens": 7},
        {
            "max_length": 12,
            "suppress_tokens": list(range(3, 120)),
            "bad_words_ids": [[i] for i in range(130, 259)],
        },
        {"max_length": 12, "eos_token_id": list(range(40, 200))},
        {"max_length": 12, "eos_token_id": list(range(40, 200)), "num_beams": 4, "length_penalty": 0.6},
        {"max_length": 12, "num_beams": 3, "early_stopping": True},
    ],
    ids=[
        "max_length",
        "behind a forced token",
        "max_new_tokens",
        "tokens that are never written",
        "an end",
        "beams that end",
        "beams",
    ],
)
def test_by_default_an_answer_is_that_of_transformers(directory: Path, keys: dict[str, Any]) -> None:
    from transformers import T5ForConditionalGeneration

    change(directory / "generation_config.json", pad_token_id=END, **keys)
    llm = load(directory)
    theirs: Any = T5ForConditionalGeneration.from_pretrained(directory)
    source = torch.tensor([llm.prompt_ids("한글은")])
    wanted = theirs.generate(source, attention_mask=torch.ones_like(source))
    assert [*llm.answer_opening, *llm.generate("한글은").tokens] == wanted[0].tolist()


def test_an_encoder_decoder_is_greedy_unless_its_file_says_otherwise(directory: Path) -> None:
    assert load(directory).default_params == SamplingParams(temperature=0)
    change(directory / "generation_config.json", do_sample=True, temperature=0.5)
    assert load(directory).default_params == SamplingParams(temperature=0.5)


def test_the_published_file_of_a_bart_is_read(directory: Path) -> None:
    change(
        directory / "generation_config.json",
        decoder_start_token_id=2, bos_token_id=0, eos_token_id=2, pad_token_id=1, forced_bos_token_id=0,
        forced_eos_token_id=2, num_beams=4, early_stopping=True, length_penalty=2.0, no_repeat_ngram_size=3,
        min_length=56, max_length=142, _from_model_config=True, transformers_version="4.27.0.dev0",
    )  # fmt: skip
    llm = load(directory)
    assert llm.default_params == SamplingParams(
        temperature=0, max_tokens=140, beam_width=4, early_stopping=True, length_penalty=2.0
    )
    assert (llm.answer_opening, llm.stop_ids) == ((2, 0), {2})


@pytest.mark.parametrize("key", ["decoder_start_token_id", "forced_bos_token_id"])
@pytest.mark.parametrize("value", ["2", [2], True, -1])
def test_an_opening_that_is_no_token_is_refused_with_its_key(
    directory: Path, key: str, value: object
) -> None:
    change(directory / "generation_config.json", **{key: value})
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: {key}=.*id of"):
        load(directory)


@pytest.mark.parametrize("length", [0, 2, "20"])
def test_a_length_without_room_for_an_answer_is_refused(directory: Path, length: object) -> None:
    change(directory / "generation_config.json", forced_bos_token_id=FORCED, max_length=length)
    with pytest.raises(CheckpointError, match=r"generation_config\.json: max_length="):
        load(directory)


def test_the_decoder_starts_as_the_generation_config_says_else_the_config_else_with_bos(
    directory: Path,
) -> None:
    assert load(directory).answer_opening == (END,)
    change(directory / "generation_config.json", decoder_start_token_id=None, bos_token_id=FORCED)
    assert load(directory).answer_opening == (FORCED,)
    change(directory / "config.json", decoder_start_token_id=START)
    assert load(directory).answer_opening == (START,)
    change(directory / "config.json", forced_bos_token_id=END)
    assert load(directory).answer_opening == (START, END)


def test_a_directory_that_does_not_say_how_the_decoder_starts_is_refused(directory: Path) -> None:
    (directory / "generation_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"Add decoder_start_token_id to generation_config\.json"):
        load(directory)


def test_a_model_that_reads_sound_is_refused_with_the_command_that_takes_it(tmp_path: Path) -> None:
    save_model(build_model(whisper.sized(1, num_heads=1, vocab_size=VOCAB_SIZE)), tmp_path)
    TOKENIZER.save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"decoder_start_token_id": 1}', "utf-8")
    with pytest.raises(ConfigError, match="malmoi transcribe"):
        load(tmp_path)


def test_the_command_prints_the_answer(directory: Path) -> None:
    args = ["한글은", "--model", str(directory), "--temperature", "0", "--max-tokens", "12"]
    result = CliRunner().invoke(generate, args)
    assert result.exception is None
    assert (
        result.stdout
        == load(directory).generate("한글은", SamplingParams(temperature=0, max_tokens=12)).text + "\n"
    )
