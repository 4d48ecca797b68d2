import math

import pytest
import torch

from malmoi.core.errors import DataError
from malmoi.data.held_out import ByteCounter, bits_per_byte, held_out
from malmoi.data.pack import PackedStream
from malmoi.data.samples import NO_TARGET, Encoder
from malmoi.data.sources import SourceConfig
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.training import train_jamo

TOKENIZER = ByteTokenizer()
ENCODER = Encoder(tokenizer=TOKENIZER)


def documents_in(batches) -> list[str]:
    ids = torch.cat([batch.tokens[0] for batch in batches]).tolist()
    return [text for text in TOKENIZER.decode(ids).split("<|endoftext|>") if text]


def test_held_out_documents_are_each_read_once_and_never_trained_on(write_rows) -> None:
    source = SourceConfig(path=write_rows([f"글 {n}" for n in range(200)]), holdout_permille=200)
    batches = held_out([source], ENCODER, tokens_per_batch=50, context_length=20, max_batches=1000)
    train = PackedStream([source], ENCODER, tokens_per_batch=50, context_length=20, num_epochs=1)
    held, trained = documents_in(batches), documents_in(train)
    assert len(held) == len(set(held)) > 10
    assert sorted(held + trained) == sorted(f"글 {n}" for n in range(200))


def test_held_out_batches_are_always_the_same_and_no_more_than_asked(write_rows) -> None:
    source = SourceConfig(path=write_rows([f"글 {n}" for n in range(200)]), holdout_permille=200)
    first, second = (
        held_out([source], ENCODER, tokens_per_batch=50, context_length=20, max_batches=3) for _ in range(2)
    )
    assert len(first) == 3
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, second, strict=True))


def test_nothing_held_out_is_refused_by_name(write_rows) -> None:
    options = {"tokens_per_batch": 50, "context_length": 20, "max_batches": 3}
    with pytest.raises(DataError, match=r"rows.jsonl: holdout_permille=0"):
        held_out([SourceConfig(path=write_rows(["가"]), holdout_permille=0)], ENCODER, **options)
    with pytest.raises(DataError, match=r"no held-out documents.*holdout_permille=1"):
        held_out([SourceConfig(path=write_rows(["가"]), holdout_permille=1)], ENCODER, **options)


def test_bytes_of_an_epoch_of_targets_are_the_bytes_of_the_files_text(write_rows) -> None:
    texts = ["말모이 🎈", "second, with <|im_end|> as plain text", "셋"]
    source = SourceConfig(path=write_rows(texts), holdout_permille=0)
    counter = ByteCounter(TOKENIZER)
    batches = PackedStream([source], ENCODER, tokens_per_batch=7, context_length=5, num_epochs=1)
    assert sum(counter.count(batch.targets) for batch in batches) == sum(len(text.encode()) for text in texts)


def test_letters_of_a_syllable_count_as_the_bytes_of_the_syllable(write_rows) -> None:
    tokenizer = train_jamo(["a"], vocab_size=473)
    texts = ["말모이 ㅋㅋ 🎈", "각하", "café", "ᄒᆞᆫ글"]
    source = SourceConfig(path=write_rows(texts), holdout_permille=0)
    options = {"tokens_per_batch": 100, "context_length": 100, "num_epochs": 1}
    batches = PackedStream([source], Encoder(tokenizer=tokenizer), **options)
    counted = sum(ByteCounter(tokenizer).count(batch.targets) for batch in batches)
    assert counted == sum(len(text.encode()) for text in texts)


def test_special_tokens_and_positions_without_a_target_count_no_bytes() -> None:
    assert ByteCounter(TOKENIZER).count(torch.tensor([[0, 1, 2, NO_TARGET]])) == 0


def test_a_model_that_knows_nothing_needs_eight_bits_a_byte() -> None:
    num_bytes = 1000
    assert bits_per_byte(num_bytes * math.log(256), num_bytes) == pytest.approx(8.0)
