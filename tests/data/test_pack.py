import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import ConfigError, DataError, TrainingError
from malmoi.data.pack import PackedBatch, PackedStream
from malmoi.data.samples import NO_TARGET, Encoder
from malmoi.data.sources import SourceConfig
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate

TOKENIZER = ByteTokenizer()
SEPARATOR, START, END = 0, 1, 2
ENCODER = Encoder(
    tokenizer=TOKENIZER,
    template=ChatTemplate(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    ),
)


def stream(
    sources: Sequence[SourceConfig], *, tokens: int = 32, context: int = 16, **options: Any
) -> PackedStream:
    return PackedStream(sources, ENCODER, tokens_per_batch=tokens, context_length=context, **options)


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def segments(batch: PackedBatch) -> Iterator[tuple[list[int], list[int]]]:
    tokens, targets = batch.tokens[0].split(batch.lengths), batch.targets[0].split(batch.lengths)
    yield from zip((t.tolist() for t in tokens), (t.tolist() for t in targets), strict=True)


def write(directory: str, name: str, rows: Sequence[Any]) -> str:
    path = Path(directory, name)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def assert_same(ours: PackedBatch, theirs: PackedBatch) -> None:
    assert ours.lengths == theirs.lengths
    assert torch.equal(ours.tokens, theirs.tokens)
    assert torch.equal(ours.targets, theirs.targets)


words = st.text("가a ", min_size=1, max_size=40).filter(str.strip)


@given(st.lists(words, min_size=1, max_size=6), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_prose_is_one_token_stream_whose_targets_are_itself_shifted_by_one(
    texts: list[str], num_tokens: int, context: int
) -> None:
    with TemporaryDirectory() as directory:
        path = write(directory, "a.jsonl", [{"text": text} for text in texts])
        source = SourceConfig(path=path, holdout_permille=0, max_characters=1000)
        packed = list(
            stream([source], tokens=num_tokens, context=context, num_epochs=1, shuffle_characters=0)
        )
    tokens = torch.cat([batch.tokens[0] for batch in packed])
    targets = torch.cat([batch.targets[0] for batch in packed])
    expected = [token for text in texts for token in (SEPARATOR, *TOKENIZER.encode(text))]
    assert tokens[: len(expected)].tolist() == expected
    assert targets[: len(expected)].tolist() == [*expected[1:], SEPARATOR]
    assert set(targets[len(expected) :].tolist()) <= {NO_TARGET}  # the end of the last batch
    for batch in packed:
        assert batch.tokens.shape == batch.targets.shape == (1, num_tokens)
        assert sum(batch.lengths) == num_tokens
        assert max(batch.lengths) <= context


def test_a_segment_never_holds_two_documents(write_rows) -> None:
    source = SourceConfig(
        path=write_rows([f"문서 {n}" * (n % 5) + "." for n in range(50)]), holdout_permille=0
    )
    for batch in islice(stream([source]), 40):
        for tokens, _ in segments(batch):
            assert SEPARATOR not in tokens[1:]


def test_pieces_of_a_long_text_lose_only_the_targets_at_the_cuts(write_rows) -> None:
    source = SourceConfig(path=write_rows(["abcdefgh"]), holdout_permille=0, max_characters=3)
    batch = next(stream([source], num_epochs=1, shuffle_characters=0))
    found = [
        (TOKENIZER.decode(tokens), TOKENIZER.decode([t for t in targets if t != NO_TARGET]))
        for tokens, targets in segments(batch)
    ]
    assert found[:3] == [("<|endoftext|>ab", "abc"), ("de", "ef"), ("gh", "h<|endoftext|>")]


def test_a_piece_of_one_token_has_nothing_to_learn_and_does_not_stop_the_stream(write_rows) -> None:
    source = SourceConfig(path=write_rows(["abcdefgh" * 40]), holdout_permille=0, max_characters=1)
    batch = next(stream([source], num_epochs=1, shuffle_characters=0))
    assert TOKENIZER.decode(batch.tokens[0].tolist()[:2]) == "<|endoftext|>h"


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[dict[str, Any]]], int, int]:
    prose = st.lists(words.map(lambda text: {"text": text}), min_size=5, max_size=12)
    chats = st.lists(st.builds(chat, words, words), min_size=4, max_size=8).map(
        lambda rows: [chat("a", "b"), *rows]
    )
    rows = draw(st.lists(st.one_of(prose, chats), min_size=1, max_size=3))
    return rows, draw(st.integers(1, 30)) + 120, draw(st.integers(60, 130))


def sources_of(directory: str, corpus: list[list[dict[str, Any]]]) -> list[SourceConfig]:
    return [
        SourceConfig(
            path=write(directory, f"{index}.jsonl", rows),
            weight=1.0 + index,
            messages_field="messages" if "messages" in rows[0] else None,
            holdout_permille=0,
            max_characters=25,
        )
        for index, rows in enumerate(corpus)
    ]


@given(corpora(), st.integers(0, 6), st.sampled_from([None, 3]))
@settings(max_examples=16, deadline=None)
def test_a_stream_resumed_after_any_batch_continues_bit_identically(
    corpus: tuple[list[list[dict[str, Any]]], int, int], cut: int, num_epochs: int | None
) -> None:
    rows, num_tokens, context = corpus
    options = {"tokens": num_tokens, "context": context, "seed": 7, "shuffle_characters": 60}
    options["num_epochs"] = num_epochs
    with TemporaryDirectory() as directory:
        sources = sources_of(directory, rows)
        whole = stream(sources, **options)
        for _ in islice(whole, cut):
            pass
        resumed = stream(sources, **options)
        resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
        assert resumed.state_dict() == whole.state_dict()
        for batch in islice(whole, 3):
            assert_same(next(resumed), batch)
            assert resumed.state_dict() == whole.state_dict()
            assert resumed.report() == whole.report()


@given(corpora())
@settings(max_examples=40, deadline=None)
def test_in_one_epoch_every_conversation_that_fits_is_one_whole_segment_and_the_rest_is_counted(
    corpus: tuple[list[list[dict[str, Any]]], int, int],
) -> None:
    rows, num_tokens, context = corpus
    limit = min(num_tokens, context)
    with TemporaryDirectory() as directory:
        sources = sources_of(directory, rows)
        packed = stream(sources, tokens=num_tokens, context=context, num_epochs=1)
        found = [segment for batch in packed for segment in segments(batch)]
    expected = []
    for row in (row for part in rows for row in part if "messages" in row):
        user, assistant = row["messages"]
        asked = [START, *TOKENIZER.encode("user\n" + user["content"]), END, *TOKENIZER.encode("\n")]
        opened = [START, *TOKENIZER.encode("assistant\n")]
        learned = [*TOKENIZER.encode(assistant["content"]), END]
        ids = asked + opened + learned
        expected.append((ids[:-1], [NO_TARGET] * (len(asked + opened) - 1) + learned))
    fitting = sorted(sample for sample in expected if len(sample[0]) <= limit)
    assert sorted(segment for segment in found if segment[0][0] == START) == fitting
    assert sum(progress.num_dropped for _, progress in packed.report()) == len(expected) - len(fitting)


def test_room_at_the_end_of_a_batch_goes_to_a_shorter_conversation_before_it_is_filled(write_rows) -> None:
    long, short = chat("a" * 30, "b" * 30), chat("a", "b")
    path = write_rows([long, long, short, short, short])
    source = SourceConfig(path=path, messages_field="messages", holdout_permille=0)
    long_length, short_length = (
        len(next(iter(segments(next(stream([one], tokens=200, context=100)))))[0])
        for one in (
            SourceConfig(
                path=write_rows([long], "long.jsonl"), messages_field="messages", holdout_permille=0
            ),
            SourceConfig(
                path=write_rows([short], "short.jsonl"), messages_field="messages", holdout_permille=0
            ),
        )
    )
    num_tokens = long_length + short_length
    for batch in islice(stream([source], tokens=num_tokens, context=num_tokens), 20):
        filler = [targets for tokens, targets in segments(batch) if tokens[0] == SEPARATOR]
        assert sum(map(len, filler)) < short_length
        assert all(target == NO_TARGET for targets in filler for target in targets)


def test_prose_fills_the_room_that_conversations_leave(write_rows) -> None:
    chats = SourceConfig(path=write_rows([chat("질문", "답")]), messages_field="messages", holdout_permille=0)
    prose = SourceConfig(path=write_rows(["글 " * 100], "prose.jsonl"), holdout_permille=0)
    for batch in islice(stream([chats, prose], tokens=100, context=64), 30):
        assert all(set(targets) != {NO_TARGET} for _, targets in segments(batch))


def test_epochs_have_different_orders_and_seeds_too(write_rows) -> None:
    source = SourceConfig(path=write_rows([f"{n:03}" for n in range(100)]), holdout_permille=0)

    def epochs(seed: int) -> list[torch.Tensor]:
        batches = islice(stream([source], tokens=400, context=8, seed=seed), 2)  # 100 documents of 4 tokens
        return [batch.tokens for batch in batches]

    first, second = epochs(seed=0)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)
    assert torch.equal(first, epochs(seed=0)[0])
    assert not torch.equal(first, epochs(seed=1)[0])


def test_a_state_of_other_settings_or_sources_or_data_is_refused(write_rows, tmp_path: Path) -> None:
    source = SourceConfig(path=write_rows(["가나다", "라마바"]), holdout_permille=0)
    started = stream([source], tokens=11)
    next(started)
    state = started.state_dict()
    with pytest.raises(ConfigError, match="context_length=16, this run has 8"):
        stream([source], tokens=11, context=8).load_state_dict(state)
    with pytest.raises(ConfigError, match="num_sources=1, this run has 2"):
        stream([source, source], tokens=11).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"sources\[0\].weight=1.0, this run has 2.0"):
        stream([replace(source, weight=2.0)], tokens=11).load_state_dict(state)
    state["sources"][0]["num_documents"] = 5
    with pytest.raises(DataError, match="has 2 documents, but the saved state had read 5"):
        stream([source], tokens=11).load_state_dict(state)


def test_a_source_without_documents_is_refused_by_name(write_rows) -> None:
    source = SourceConfig(path=write_rows(["가"]), include=("위키",), holdout_permille=0)
    with pytest.raises(DataError, match=r"rows.jsonl has no train documents. Check include=\('위키',\)"):
        next(stream([source]))


def test_conversations_that_are_all_too_long_are_refused_not_skipped_forever(write_rows) -> None:
    source = SourceConfig(
        path=write_rows([chat("가" * 50, "나")]), messages_field="messages", holdout_permille=0
    )
    with pytest.raises(TrainingError, match=r"every conversation of .* is longer than 16 tokens"):
        next(stream([source]))


def test_a_conversation_with_no_target_is_refused_by_line(write_rows) -> None:
    rows = [chat("가", "나"), {"messages": [{"role": "user", "content": "혼자 말한다"}]}]
    source = SourceConfig(path=write_rows(rows), messages_field="messages", holdout_permille=0)
    with pytest.raises(TrainingError, match=r"rows.jsonl:2: nothing to learn .*roles: user"):
        next(stream([source], tokens=64, context=64))


def test_conversations_without_a_template_are_refused(write_rows) -> None:
    source = SourceConfig(path=write_rows([chat("가", "나")]), messages_field="messages", holdout_permille=0)
    with pytest.raises(ConfigError, match="there is no chat template"):
        next(PackedStream([source], Encoder(tokenizer=TOKENIZER), tokens_per_batch=64, context_length=64))


def test_a_separator_that_the_tokenizer_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'<s>' is not in the tokenizer's vocabulary.*<\|endoftext\|>"):
        _ = Encoder(tokenizer=TOKENIZER, separator="<s>").separator_id


def test_what_a_text_says_is_never_the_separator(write_rows) -> None:
    source = SourceConfig(path=write_rows(["<|endoftext|>"]), holdout_permille=0)
    batch = next(stream([source], tokens=14, context=14))
    assert batch.tokens[0].tolist().count(SEPARATOR) == 1
