"""Laws of data/framed.py, data/mask.py and labelled sources: what an encoder learns from, exact to the token."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from malmoi.core.errors import ConfigError, DataError
from malmoi.data.documents import Labelled, Text
from malmoi.data.framed import FramedEncoder
from malmoi.data.mask import mask_tokens
from malmoi.data.pack import PackedBatch, PackedStream
from malmoi.data.samples import NO_TARGET, Encoder
from malmoi.data.sources import SourceConfig, iterate_texts, read_documents
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.training import train_bpe_for_encoders

TOKENIZER = train_bpe_for_encoders(["a"], vocab_size=260)  # [PAD] [CLS] [SEP] [MASK], then a token a byte
CLS, SEP, MASK = 1, 2, 3
IS_SPECIAL = torch.arange(260) < 4


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def text(content: str) -> Text:
    return Text(text=content, where="t:1")


def labelled(content: str, label: Any, pair: str | None = None) -> Labelled:
    return Labelled(text=content, pair=pair, label=label, where="t:1")


def by_label(document: Labelled) -> int | float:
    assert not isinstance(document.label, str)
    return document.label


# --- samples -----------------------------------------------------------------------------------------------


def test_a_text_is_framed_and_has_no_target() -> None:
    (sample,) = FramedEncoder(tokenizer=TOKENIZER).encode([text("Az")])
    assert sample.ids.tolist() == [CLS, *TOKENIZER.encode("Az"), SEP]
    assert sample.targets.tolist() == [NO_TARGET] * 4
    assert sample.is_divisible


def test_a_label_is_the_target_of_the_first_token() -> None:
    (sample,) = FramedEncoder(tokenizer=TOKENIZER, target_of=by_label).encode([labelled("A", 7)])
    assert sample.targets.tolist() == [7, NO_TARGET, NO_TARGET]
    assert not sample.is_divisible


def test_a_pair_is_two_frames_that_do_not_see_each_other_and_a_score_is_not_rounded() -> None:
    (sample,) = FramedEncoder(tokenizer=TOKENIZER, target_of=by_label).encode([labelled("A", 0.25, "BC")])
    assert sample.ids.tolist() == [CLS, *TOKENIZER.encode("A"), SEP, CLS, *TOKENIZER.encode("BC"), SEP]
    assert sample.segments == (3, 4)
    assert sample.targets.tolist() == [0.25] + [float(NO_TARGET)] * 6


def test_a_document_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="t:1 is a labelled, but what is learned here needs a text alone"):
        FramedEncoder(tokenizer=TOKENIZER).encode([labelled("A", 1)])
    with pytest.raises(
        ConfigError, match="t:1 is a text, but what is learned here needs a text with a label"
    ):
        FramedEncoder(tokenizer=TOKENIZER, target_of=by_label).encode([text("A")])
    with pytest.raises(ConfigError, match="t:1 has a label, which nobody learns"):
        Encoder(tokenizer=ByteTokenizer()).encode([labelled("A", 1)])


def test_a_tokenizer_that_frames_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no \[CLS\] and \[SEP\]"):
        _ = FramedEncoder(tokenizer=ByteTokenizer()).separator_id


# --- sources and packing -----------------------------------------------------------------------------------


def test_rows_with_a_label_are_labelled_texts_and_pairs(tmp_path: Path) -> None:
    rows = [{"s1": "가", "s2": "나", "score": 2.5}, {"s1": "다", "s2": "라", "score": 0}]
    source = SourceConfig(
        path=write_jsonl(tmp_path / "pairs.jsonl", rows), text_field="s1", pair_field="s2", label_field="score",
        holdout_permille=0,
    )  # fmt: skip
    documents = list(read_documents(source))
    assert [(d.text, d.pair, d.label) for d in documents] == [("가", "나", 2.5), ("다", "라", 0)]
    assert list(iterate_texts(source)) == ["가", "나", "다", "라"]
    assert [d.pair for d in read_documents(replace(source, pair_field=None))] == [None, None]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "가", "pair": "나"}, "label_field='label' is absent"),
        ({"text": "가", "pair": "나", "label": True}, "label_field='label' is of type bool"),
        ({"text": "가", "pair": "나", "label": [1]}, "label_field='label' is of type list"),
        ({"text": "가", "pair": 3, "label": 1}, "pair_field='pair' is of type int"),
        ({"text": "가", "pair": "나", "label": None}, "label_field='label' is null. Fill it in"),
    ],
)
def test_a_row_without_a_label_or_a_pair_is_refused_by_its_line(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    source = SourceConfig(path=path, pair_field="pair", label_field="label", holdout_permille=0)
    with pytest.raises(DataError, match=f"rows.jsonl:1: {message}"):
        list(read_documents(source))


def test_a_source_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="sets both label_field and messages_field"):
        SourceConfig(path="x", label_field="label", messages_field="messages")
    with pytest.raises(ConfigError, match="pair_field='s2' without a label_field"):
        SourceConfig(path="x", pair_field="s2")


def test_each_text_of_a_pair_is_a_segment_of_the_batch_and_fillers_have_no_target(tmp_path: Path) -> None:
    rows = [{"s1": "a" * n, "s2": "b" * (n + 1), "score": n} for n in range(1, 6)]
    source = SourceConfig(
        path=write_jsonl(tmp_path / "pairs.jsonl", rows), text_field="s1", pair_field="s2", label_field="score",
        holdout_permille=0,
    )  # fmt: skip
    encoder = FramedEncoder(tokenizer=TOKENIZER, target_of=lambda document: float(by_label(document)))
    stream = PackedStream([source], encoder, tokens_per_batch=32, context_length=24, num_epochs=1)
    seen = []
    for batch in stream:
        assert sum(batch.lengths) == 32
        segments = batch.tokens[0].split(batch.lengths)
        for segment, target in zip(segments, batch.targets[0].split(batch.lengths), strict=True):
            assert (target[1:] == NO_TARGET).all()
            if target[0] != NO_TARGET:
                assert len(segment) - 2 == target[0]
                seen.append(int(target[0]))
    assert sorted(seen) == [1, 2, 3, 4, 5]


# --- masks -------------------------------------------------------------------------------------------------


def batch_of(num_tokens: int = 1000) -> PackedBatch:
    tokens = torch.randint(4, 260, (1, num_tokens), generator=torch.Generator().manual_seed(0))
    tokens[0, ::10] = CLS
    return PackedBatch(
        tokens=tokens, targets=torch.full_like(tokens, NO_TARGET), lengths=(10,) * (num_tokens // 10)
    )


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_shares_are_exact(rate: float) -> None:
    batch = batch_of()
    masked = mask_tokens(batch, is_special=IS_SPECIAL, mask_id=MASK, rate=rate, seed=3)
    is_target = masked.targets != NO_TARGET
    num_chosen = round(900 * rate)
    assert is_target.sum() == num_chosen
    assert (masked.targets[is_target] == batch.tokens[is_target]).all()
    assert torch.equal(masked.tokens[~is_target], batch.tokens[~is_target])
    assert (masked.tokens == MASK).sum() == round(0.8 * num_chosen)
    num_same = ((masked.tokens == batch.tokens) & is_target).sum()
    assert num_same - (num_chosen - round(0.8 * num_chosen) - round(0.1 * num_chosen)) in (0, 1)
    assert not IS_SPECIAL[batch.tokens[is_target]].any()
    assert batch.targets.eq(NO_TARGET).all(), "the batch itself is as it was"


def test_a_seed_hides_the_same_tokens_and_another_others() -> None:
    def hidden(seed: int) -> torch.Tensor:
        return mask_tokens(batch_of(), is_special=IS_SPECIAL, mask_id=MASK, rate=0.15, seed=seed).tokens

    assert torch.equal(hidden(1), hidden(1))
    assert not torch.equal(hidden(1), hidden(2))


def test_every_token_is_hidden_sooner_or_later() -> None:
    counts = sum(
        (
            mask_tokens(batch_of(100), is_special=IS_SPECIAL, mask_id=MASK, rate=0.15, seed=s).targets[0] >= 0
        ).int()
        for s in range(400)
    )
    assert isinstance(counts, torch.Tensor)
    ordinary = torch.ones(100, dtype=torch.bool)
    ordinary[::10] = False
    assert (counts[ordinary] > 20).all()  # 58 on average (round(13.5) = 14 of 90, 400 times)
    assert not counts[~ordinary].any()


def test_masked_prose_streams_without_end(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "prose.jsonl", [{"text": f"{n}번째 글이다."} for n in range(10)])
    stream = PackedStream(
        [SourceConfig(path=path)], FramedEncoder(tokenizer=TOKENIZER), tokens_per_batch=64, context_length=64
    )
    for batch in islice(stream, 20):
        assert batch.tokens.shape == (1, 64)
        assert batch.targets.eq(NO_TARGET).all()
