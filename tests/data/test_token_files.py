import doctest
import hashlib
import json
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import ConfigError, DataError
from malmoi.data import encode_ahead, files, prose, sources
from malmoi.data.denoise import WholeEncoder
from malmoi.data.documents import Text, Tokenized
from malmoi.data.encode_files import encode_files
from malmoi.data.framed import FramedEncoder
from malmoi.data.held_out import held_out
from malmoi.data.pack import PackedBatch, PackedStream
from malmoi.data.prose import ProseEncoder
from malmoi.data.samples import Encoder
from malmoi.data.sources import SourceConfig, iterate_texts, read_documents
from malmoi.data.token_files import TokenFile
from malmoi.data.token_manifest import MANIFEST, UNFINISHED, Manifest
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe

TOKENIZER = ByteTokenizer()
PROSE = ProseEncoder(tokenizer=TOKENIZER)
ENCODER = Encoder(tokenizer=TOKENIZER)
SEPARATOR = 0


def write(directory: str | Path, name: str, texts: Sequence[str]) -> None:
    rows = [json.dumps({"text": text, "source": f"{name} {number}"}) for number, text in enumerate(texts)]
    Path(directory, name).write_text("".join(row + "\n" for row in rows), "utf-8")


def stream(source: SourceConfig, **options: Any) -> PackedStream:
    options = {"seed": 3, "shuffle_characters": 60, **options}
    return PackedStream(
        [source], options.pop("encoder", ENCODER), tokens_per_batch=48, context_length=20, **options
    )


def assert_same(ours: PackedBatch, theirs: PackedBatch) -> None:
    assert ours.lengths == theirs.lengths
    assert ours.tokens.dtype == ours.targets.dtype == torch.int64
    assert torch.equal(ours.tokens, theirs.tokens)
    assert torch.equal(ours.targets, theirs.targets)


def content(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.fixture
def corpus(tmp_path: Path) -> SourceConfig:
    """Three files of 90 documents in all, one of them without any; a tenth is held out, and long ones are cut."""
    directory = tmp_path / "corpus"
    directory.mkdir()
    write(directory, "a.jsonl", [f"가나다 {n}\n" * (n % 7 + 1) for n in range(60)])
    write(directory, "b.jsonl", [" "])
    (directory / "c.txt").write_text("".join(f"{n}번째 줄입니다.\n" for n in range(80)), "utf-8")
    return SourceConfig(path=str(directory), holdout_permille=100, max_characters=25)


@pytest.fixture
def made(corpus: SourceConfig, tmp_path: Path) -> SourceConfig:
    """The same documents as a token file of several shards."""
    encode_files([corpus], tmp_path / "tokens", PROSE, tokens_per_shard=700)
    return replace(corpus, path=str(tmp_path / "tokens"))


# ---- the same training


@given(
    st.lists(st.lists(st.text("가a \n", max_size=50), min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(5, 60),
    st.sampled_from([0, 40, 10_000]),
    st.sampled_from(["train", "held-out"]),
)
@settings(max_examples=25)
def test_batches_from_a_token_file_are_those_from_the_text_to_the_bit(
    files: list[list[str]], tokens_per_shard: int, max_characters: int, shuffle_characters: int, split: Any
) -> None:
    with TemporaryDirectory() as directory:
        for number, texts in enumerate(files):
            write(directory, f"{number}.jsonl", [*texts, "끝"])
        text = SourceConfig(path=f"{directory}/*.jsonl", holdout_permille=300, max_characters=max_characters)
        if not list(read_documents(text, split=split)):
            return
        out = Path(directory, "tokens")
        encode_files([text], out, PROSE, tokens_per_shard=tokens_per_shard)
        options = {"shuffle_characters": shuffle_characters, "split": split, "num_epochs": 3}
        ours, theirs = stream(replace(text, path=str(out)), **options), stream(text, **options)
        for expected in theirs:
            assert_same(next(ours), expected)
            assert ours.state_dict() == theirs.state_dict()
        assert next(ours, None) is None


def test_a_run_on_the_text_is_resumed_on_the_token_file_and_back(
    corpus: SourceConfig, made: SourceConfig
) -> None:
    for first, second in ((corpus, made), (made, corpus)):
        begun, resumed = stream(first), stream(second)
        for _ in islice(begun, 120):
            pass
        assert begun.report()[0][1].epoch > 0
        resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
        for expected in islice(begun, 40):
            assert_same(next(resumed), expected)


def test_held_out_batches_are_those_of_the_text(corpus: SourceConfig, made: SourceConfig) -> None:
    options: dict[str, Any] = {"tokens_per_batch": 48, "context_length": 20, "max_batches": 50}
    ours, theirs = held_out([made], ENCODER, **options), held_out([corpus], ENCODER, **options)
    assert len(ours) == len(theirs) > 1
    for our, their in zip(ours, theirs, strict=True):
        assert_same(our, their)


def test_a_token_file_mixes_with_text(corpus: SourceConfig, made: SourceConfig, write_rows) -> None:
    other = SourceConfig(path=write_rows(["다른 글 " * 9] * 9, "other.jsonl"), holdout_permille=0)
    ours, theirs = (
        PackedStream([source, other], ENCODER, tokens_per_batch=48, context_length=20)
        for source in (made, corpus)
    )
    for expected in islice(theirs, 60):
        assert_same(next(ours), expected)


def test_samples_are_views_of_the_mapped_file_and_nothing_is_encoded(
    made: SourceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(texts: Sequence[str]) -> list[list[int]]:
        assert not texts
        return []

    monkeypatch.setattr(TOKENIZER, "encode_batch", refuse)
    documents = list(read_documents(made))
    for document, sample in zip(documents, ENCODER.encode(documents), strict=True):
        assert isinstance(document, Tokenized)
        whole = document.shard.ids(document.number)
        assert sample.ids.dtype == torch.uint16
        assert numpy.shares_memory(sample.ids.numpy(), whole)
        assert numpy.shares_memory(sample.targets.numpy(), whole)
        assert isinstance(document.shard._tokens.base, numpy.memmap)


@pytest.mark.parametrize("module", [prose, sources])
def test_the_examples_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0 < result.attempted


# ---- what is in the files


def test_numpy_alone_reads_what_the_manifest_says(corpus: SourceConfig, made: SourceConfig) -> None:
    directory = Path(made.path)
    manifest = json.loads((directory / MANIFEST).read_text("utf-8"))
    loaded = [
        (numpy.load(directory / shard["tokens"]["path"]), numpy.load(directory / shard["documents"]["path"]))
        for shard in manifest["shards"]
    ]
    assert len(loaded) > 2
    ids = [
        piece.tolist()
        for tokens, index in loaded
        for piece in numpy.split(tokens, index["end"][:-1].astype(int))
    ]
    marks = [bool(mark) for _, index in loaded for mark in index["is_held_out"]]
    sizes = [int(size) for _, index in loaded for size in index["num_characters"]]
    for split in ("train", "held-out"):
        expected = []
        for document in read_documents(corpus, split=split):
            assert isinstance(document, Text)
            start, end = [SEPARATOR] * document.is_start, [SEPARATOR] * document.is_end
            expected.append(([*start, *TOKENIZER.encode(document.text), *end], len(document.text)))
        found = zip(ids, sizes, marks, strict=True)
        assert [(i, size) for i, size, mark in found if mark == (split == "held-out")] == expected
    assert manifest["num_documents"] == len(ids) == sum(manifest["documents_of_files"])
    assert manifest["num_tokens"] == sum(map(len, ids))
    assert manifest["documents_of_files"][1] == 0
    assert manifest["special_tokens"] == dict(TOKENIZER.special_tokens)
    files = [*(Path(corpus.path) / name for name in ("a.jsonl", "b.jsonl", "c.txt"))]
    assert [file["path"] for file in manifest["files"]] == list(map(str, files))
    named = [(Path(file["path"]), file) for file in manifest["files"]]
    named += [
        (directory / file["path"], file) for shard in manifest["shards"] for file in list(shard.values())[:2]
    ]
    for path, file in named:
        assert file["size"] == path.stat().st_size
        assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "uint32")])
def test_ids_have_32_bits_where_16_do_not_hold_the_vocabulary(
    vocab_size: int, dtype: str, tmp_path: Path, write_rows
) -> None:
    content = json.loads(TOKENIZER.backend.to_str())
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {t: i if i < 3 else vocab_size - 259 + i for t, i in vocab.items()}
    tokenizer = Tokenizer(json.dumps(content))
    source = SourceConfig(path=write_rows(["\x7f ÿ"]), holdout_permille=0)
    made = encode_files([source], tmp_path / "tokens", ProseEncoder(tokenizer=tokenizer))
    assert made.dtype == dtype
    batch = next(
        PackedStream(
            [replace(source, path=str(tmp_path / "tokens"))],
            Encoder(tokenizer=tokenizer),
            tokens_per_batch=5,
            context_length=5,
        )
    )
    assert batch.tokens.tolist() == [[0, *tokenizer.encode("\x7f ÿ")]]
    assert batch.tokens.max() == vocab_size - 256 + 0xC3
    assert tokenizer.vocab_size == vocab_size


def test_several_files_are_one_source_in_the_order_of_names(corpus: SourceConfig, tmp_path: Path) -> None:
    names = ("c.txt", "a.jsonl", "b.jsonl", "*.jsonl")
    named = [replace(corpus, path=f"{corpus.path}/{name}") for name in names]
    assert encode_files(named, tmp_path / "1", PROSE) == encode_files([corpus], tmp_path / "2", PROSE)
    assert content(tmp_path / "1") == content(tmp_path / "2")


@pytest.mark.parametrize(("num_ahead", "characters"), [(1, 1), (3, 40), (9, 10**6)])
def test_the_bytes_do_not_depend_on_how_many_are_encoded_at_once(
    num_ahead: int, characters: int, corpus: SourceConfig, made: SourceConfig, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(encode_ahead, "_num_ahead", lambda: num_ahead)
    monkeypatch.setattr(encode_ahead, "CHARACTERS_PER_BATCH", characters)
    encode_files([corpus], tmp_path / "again", PROSE, tokens_per_shard=700)
    assert content(tmp_path / "again") == content(Path(made.path))


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_ahead, "_num_ahead", lambda: 2)
    monkeypatch.setattr(encode_ahead, "CHARACTERS_PER_BATCH", 2_000)
    monkeypatch.setattr(files, "CHUNK_BYTES", 2**13)

    def peak(num_lines: int) -> int:
        file = tmp_path / f"{num_lines}.txt"
        file.write_text("한 줄은 스무 글자쯤이면 됩니다.\n" * num_lines, "utf-8")
        tracemalloc.start()
        source = SourceConfig(path=str(file), max_characters=1_000)
        encode_files([source], tmp_path / f"tokens {num_lines}", PROSE, tokens_per_shard=200_000)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1_000)  # what is imported and compiled once
    assert peak(24_000) < 1.2 * peak(8_000)


# ---- interrupted


class Stopped(BaseException):
    pass


def stop_after(num_tokens: int) -> Callable[[int, int], None]:
    def stop(_: int, done: int) -> None:
        if done >= num_tokens:
            raise Stopped

    return stop


@pytest.mark.parametrize("num_tokens", [800, 2_000, 3_000])
def test_an_interrupted_run_is_no_token_file_and_goes_on_behind_its_whole_shards(
    num_tokens: int, corpus: SourceConfig, made: SourceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode_ahead, "CHARACTERS_PER_BATCH", 40)
    out = tmp_path / "resumed"
    with pytest.raises(Stopped):
        encode_files([corpus], out, PROSE, tokens_per_shard=700, on_progress=stop_after(num_tokens))
    done = Manifest.read(out / UNFINISHED)
    assert len(done.shards) == num_tokens // 725
    assert len(list(out.iterdir())) == 1 + 2 * len(done.shards)
    with pytest.raises(
        DataError, match=r"no token file: it has no tokens.json.*goes on where it was interrupted"
    ):
        list(read_documents(replace(corpus, path=str(out))))
    (out / ".tokens-00009.npy.x.tmp").mkdir()  # what a killed process leaves
    encoded: list[int] = []
    whole = encode_files(
        [corpus], out, PROSE, tokens_per_shard=700, on_progress=lambda _, tokens: encoded.append(tokens)
    )
    assert encoded[-1] == whole.num_tokens - done.num_tokens
    assert content(out) == content(Path(made.path))


def test_what_is_interrupted_before_the_first_shard_leaves_nothing(
    corpus: SourceConfig, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        encode_files([corpus], tmp_path / "out", PROSE, on_progress=stop_after(1))
    assert not (tmp_path / "out").exists()


def test_a_bad_file_is_named_and_leaves_whole_shards_only(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", ["가나다"] * 20)
    (tmp_path / "b.txt").write_bytes("한국어".encode("cp949"))
    with pytest.raises(DataError, match=r"b.txt:1: not UTF-8"):
        encode_files([SourceConfig(path=str(tmp_path))], tmp_path / "out", PROSE)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"b.txt:1: not UTF-8"):
        encode_files([SourceConfig(path=f"{tmp_path}/?.*")], tmp_path / "out", PROSE, tokens_per_shard=100)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_file_that_grows_meanwhile_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", ["가나다"] * 20)

    def grow(_: int, __: int) -> None:
        with (tmp_path / "a.jsonl").open("a", encoding="utf-8") as file:
            file.write("\n")

    with pytest.raises(DataError, match=r"a.jsonl has \d+ bytes, not \d+"):
        encode_files(
            [SourceConfig(path=str(tmp_path / "a.jsonl"))], tmp_path / "out", PROSE, on_progress=grow
        )
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_what_is_complete_is_not_encoded_again(corpus: SourceConfig, made: SourceConfig) -> None:
    before = {file: file.stat().st_mtime_ns for file in Path(made.path).iterdir()}
    refuse = stop_after(0)
    manifest = encode_files([corpus], made.path, PROSE, tokens_per_shard=700, on_progress=refuse)
    assert manifest == TokenFile(made.path).manifest
    assert {file: file.stat().st_mtime_ns for file in Path(made.path).iterdir()} == before


# ---- refused


def test_another_tokenizer_or_separator_is_refused_before_a_token_is_read(made: SourceConfig) -> None:
    for encoder in (
        Encoder(tokenizer=train_bpe(["나는 학교에 간다."] * 3, vocab_size=262)),
        Encoder(tokenizer=ByteTokenizer(["<|im_start|>", "<|endoftext|>", "<|im_end|>"])),
        Encoder(tokenizer=TOKENIZER, separator="<|im_end|>"),
    ):
        with pytest.raises(
            DataError, match=r"tokens was encoded with another tokenizer: 259 tokens, SHA-256 \w{16}"
        ):
            next(stream(made, encoder=encoder))


def test_a_tokenizer_is_the_same_wherever_its_file_was_written(made: SourceConfig, tmp_path: Path) -> None:
    """`transformers` lays a tokenizer.json out in its own way, with a post-processor that `encode` never runs."""
    from transformers import AutoTokenizer

    TOKENIZER.save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    ours, theirs = (tmp_path / name / "tokenizer.json" for name in ("ours", "theirs"))
    assert ours.read_bytes() != theirs.read_bytes()
    again = Encoder(tokenizer=Tokenizer.load(tmp_path / "theirs"))
    assert_same(next(stream(made, encoder=again)), next(stream(made)))


@pytest.mark.parametrize("name", ["tokens-00001.npy", "documents-00001.npy"])
def test_a_damaged_shard_is_refused_when_it_is_looked_at(name: str, made: SourceConfig) -> None:
    path = Path(made.path, name)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    documents = read_documents(made)
    first = next(documents)
    assert ENCODER.encode([first])  # another shard is as good as before
    with pytest.raises(DataError, match=rf"{name} is damaged: its SHA-256 is"):
        ENCODER.encode(list(documents))


@pytest.mark.parametrize("name", ["tokens-00001.npy", "documents-00002.npy"])
def test_a_shard_that_is_missing_or_cut_is_refused_at_once(name: str, made: SourceConfig) -> None:
    path = Path(made.path, name)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match=rf"{name} has \d+ bytes, not \d+"):
        TokenFile(made.path)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        TokenFile(made.path)


@pytest.mark.parametrize(
    "setting",
    [
        {"holdout_permille": 5},
        {"holdout_by": "text"},
        {"max_characters": 10_000},
        {"exclude": ("a",)},
        {"format": "{text}"},
        {"messages_field": "messages"},
    ],
)
def test_a_source_with_other_settings_is_refused_by_name(setting: dict[str, Any], made: SourceConfig) -> None:
    [name] = setting
    with pytest.raises(ConfigError, match=rf"tokens was made with {name}=.* its source has "):
        list(read_documents(replace(made, **setting)))
    assert list(read_documents(replace(made, weight=7.0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format_version=2, and this version of Malmoi reads 1"),
        ({"format_version": None}, "format_version=None"),
        ({"dtype": "float32"}, "dtype"),
        ({"colour": "blue"}, "unknown key 'colour'"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(
    change: dict[str, Any], message: str, made: SourceConfig
) -> None:
    path = Path(made.path, MANIFEST)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(DataError, match=message):
        TokenFile(made.path)


def test_a_directory_with_something_else_in_it_is_left_alone(
    corpus: SourceConfig, made: SourceConfig, tmp_path: Path
) -> None:
    before = content(Path(made.path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "b.txt").write_text("가")
    for out, source, encoder, message in (
        (tmp_path / "full", corpus, PROSE, "full is there already, and no empty directory"),
        (tmp_path / "full" / "b.txt", corpus, PROSE, "b.txt is there already"),
        (Path(made.path), replace(corpus, max_characters=9), PROSE, "something else. What differs: reading"),
        (
            Path(made.path),
            replace(corpus, path=f"{corpus.path}/a.jsonl"),
            PROSE,
            "something else. What differs: files",
        ),
        (
            Path(made.path),
            corpus,
            replace(PROSE, separator="<|im_end|>"),
            "something else. What differs: encoding",
        ),
    ):
        with pytest.raises(DataError, match=message):
            encode_files([source], out, encoder)
    write(corpus.path, "a.jsonl", ["바뀐 글"])
    with pytest.raises(DataError, match="What differs: files. Name another directory"):
        encode_files([corpus], made.path, PROSE)
    assert content(Path(made.path)) == before
    assert content(tmp_path / "full") == {"b.txt": "가".encode()}


def test_only_prose_is_encoded(corpus: SourceConfig, tmp_path: Path) -> None:
    for setting in ({"messages_field": "messages"}, {"label_field": "label"}):
        with pytest.raises(ConfigError, match="a token file has prose alone"):
            encode_files([replace(corpus, **setting)], tmp_path / "out", PROSE)
    with pytest.raises(ConfigError, match="differ in more than their path"):
        encode_files([corpus, replace(corpus, max_characters=9)], tmp_path / "out", PROSE)
    write(tmp_path, "blank.jsonl", ["", " "])
    with pytest.raises(DataError, match=r"blank.jsonl has no text to encode"):
        encode_files([SourceConfig(path=str(tmp_path / "blank.jsonl"))], tmp_path / "out", PROSE)
    assert not (tmp_path / "out").exists()


def test_who_needs_the_text_refuses_its_ids(made: SourceConfig) -> None:
    with pytest.raises(DataError, match="is a token file, and has ids but no texts"):
        next(iterate_texts(made))
    document = next(read_documents(made))
    for encoder in (FramedEncoder(tokenizer=TOKENIZER), WholeEncoder(tokenizer=TOKENIZER)):
        with pytest.raises(ConfigError, match=r"tokens-00000.npy#0 is a tokenized"):
            encoder.encode([document])
