"""Laws of train/denoise_objectives.py: what is asked is the damaged text, what is learned is what is missing of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

import malmoi
from malmoi.core.errors import ConfigError, DataError
from malmoi.data.pack import PackedBatch
from malmoi.data.samples import NO_TARGET
from malmoi.data.sources import SourceConfig
from malmoi.engine import SamplingParams
from malmoi.models import build_model, initialise, load_model, save_model
from malmoi.nn.stack import EncoderDecoder
from malmoi.testing.crash import dies_at
from malmoi.testing.models import tiny_llama
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.training import train_bpe_for_encoders, train_bpe_for_text_to_text
from malmoi.train.config import FromCheckpoint, RunConfig
from malmoi.train.denoise_objectives import Denoise, SpanCorruption, TextInfilling
from malmoi.train.forward import Forward
from malmoi.train.loop import Observer, Trainer, train
from malmoi.train.metrics import read_metrics
from malmoi.train.objective import NextToken
from malmoi.train.optim import OptimConfig

from .conftest import write_rows

MakeRun = Callable[..., RunConfig]
# <pad> </s> <mask>, 100 holes, then a token a byte
TOKENIZER = train_bpe_for_text_to_text(["a"], vocab_size=103 + 256)
PAD, END, MASK, HOLE = 0, 1, 2, 3
OBJECTIVES = {"span-corruption": SpanCorruption(share=0.3), "text-infilling": TextInfilling()}


@pytest.fixture
def make_text_run(make_run: MakeRun, tmp_path: Path) -> MakeRun:
    """Makes a run of eight steps over a few sentences; keywords change its settings."""
    TOKENIZER.save(tmp_path / "text-to-text")
    path = write_rows(
        tmp_path / "prose.jsonl", [{"text": f"abc. abd. {letter}!"} for letter in "efghijklmnop"]
    )
    run = make_run(
        tokenizer=str(tmp_path / "text-to-text"),
        objective=SpanCorruption(),
        sources=(SourceConfig(path=path, holdout_permille=200),),
        total_tokens=8 * 128,
        optim=OptimConfig(lr=1e-2),
    )

    def make(**changes: Any) -> RunConfig:
        return replace(run, **changes)

    return make


def whole(*texts: str, filler: int = 0) -> PackedBatch:
    """A batch as the stream makes it: texts, and what fills it up."""
    rows = [TOKENIZER.encode(text) for text in texts]
    ids = [token for row in rows for token in row]
    return PackedBatch(
        tokens=torch.tensor([ids + [END] * filler]),
        targets=torch.tensor([ids + [NO_TARGET] * filler]),
        lengths=(*map(len, rows), *[filler] * bool(filler)),
    )


def pairs(batch: PackedBatch) -> list[tuple[list[int], list[int], list[int]]]:
    """What the encoder reads, what the decoder reads, and what it is to write, text by text."""
    assert batch.source is not None
    parts = (
        batch.source.split(batch.source_lengths, dim=1),
        batch.tokens.split(batch.lengths, dim=1),
        batch.targets.split(batch.lengths, dim=1),
    )
    return [tuple(part[0].tolist() for part in text) for text in zip(*parts, strict=True)]  # type: ignore[misc]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_decoder_reads_its_targets_a_step_later_and_both_texts_end(kind: str) -> None:
    posed = OBJECTIVES[kind].pose(whole("가나다. 라마바. 사아자.", "abcdefgh"), TOKENIZER, seed=1)
    start = {"span-corruption": PAD, "text-infilling": END}[kind]
    for source, read, written in pairs(posed):
        assert source[-1] == written[-1] == END
        assert read == [start, *written[:-1]]


def test_holes_of_span_corruption_filled_with_what_is_written_are_the_text() -> None:
    texts = ["가나다 라마바 사아자 차카타 파하", "abcdefghijkl", "x"]
    for (source, _, written), text in zip(
        pairs(OBJECTIVES["span-corruption"].pose(whole(*texts), TOKENIZER, seed=3)), texts, strict=True
    ):
        spans: dict[int, list[int]] = {}
        for token in written[:-1]:
            if HOLE <= token < HOLE + 100:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        restored = [token for hole in source[:-1] for token in spans.get(hole, [hole])]
        assert TOKENIZER.decode(restored) == text


def test_all_of_the_text_is_written_where_holes_are_filled_and_sentences_sorted() -> None:
    text = "하나. 둘? 셋! 넷."
    sources = set()
    for seed in range(8):
        [(source, _, written)] = pairs(TextInfilling(share=0.1).pose(whole(text), TOKENIZER, seed=seed))
        assert TOKENIZER.decode(written[:-1]) == text
        assert MASK in source
        sources.add(TOKENIZER.decode(source, skip_special=True))
    assert any(not text.startswith(source[:2]) for source in sources)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_what_fills_a_batch_up_is_not_learned(kind: str) -> None:
    full, alone = (
        OBJECTIVES[kind].pose(whole("가나다라마바", filler=filler), TOKENIZER, seed=0) for filler in (5, 0)
    )
    assert pairs(full) == pairs(alone)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_another_seed_damages_another_way_and_the_same_seed_the_same(kind: str) -> None:
    asked = [
        pairs(OBJECTIVES[kind].pose(whole("가나다라마바사아자차카"), TOKENIZER, seed=s)) for s in (0, 1, 0)
    ]
    assert asked[0] == asked[2] != asked[1]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_loss_is_that_of_the_models_logits_text_by_text(kind: str) -> None:
    objective = OBJECTIVES[kind]
    model = initialise(
        build_model(objective.shape(2, vocab_size=TOKENIZER.vocab_size, max_positions=64)), seed=0, std=0.2
    )
    assert isinstance(model, EncoderDecoder)
    if model.head.bias is not None:
        model.head.bias.data.normal_()  # type: ignore[operator]
    posed = objective.pose(whole("가나다. 라마바.", "abc"), TOKENIZER, seed=5)
    loss = Forward(objective.fit(model, seed=0), is_compiled=False, objective=objective)(posed)
    wanted = sum(
        F.cross_entropy(
            model(torch.tensor([source]), decoder_tokens=torch.tensor([read])).logits[0],
            torch.tensor(written),
            reduction="sum",
        ).item()
        for source, read, written in pairs(posed)
    )
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_run_killed_and_resumed_ends_as_one_that_was_not(
    kind: str, make_text_run: MakeRun, tmp_path: Path
) -> None:
    run = make_text_run(objective=OBJECTIVES[kind])
    train(replace(run, out=str(tmp_path / "whole")))
    with dies_at(60) as died:
        train(run)
    assert died
    train(run)
    newest = [
        sorted((tmp_path / out / "checkpoints").glob("step-*"))[-1] / "weights.safetensors"
        for out in ("whole", "out")
    ]
    assert newest[0].read_bytes() == newest[1].read_bytes()


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_text_is_learned_and_the_model_that_is_saved_repairs_it(kind: str, make_text_run: MakeRun) -> None:
    run = make_text_run(objective=OBJECTIVES[kind], total_tokens=60 * 128)
    model = train(replace(run, eval_sources=run.sources))
    rows = read_metrics(model.parent / "metrics.jsonl")
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["held_out_loss"] < 0.7 * rows[0]["loss"]
    assert isinstance(load_model(model), EncoderDecoder)
    answer = malmoi.load(model).generate("abc. abd. e!", SamplingParams(max_tokens=20, temperature=0.0))
    if kind == "span-corruption":
        assert answer.tokens[0] == HOLE
    else:
        assert answer.text.startswith("abc. abd.")


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_transformers_writes_what_we_write(kind: str, make_text_run: MakeRun) -> None:
    model = train(make_text_run(objective=OBJECTIVES[kind], total_tokens=30 * 128))
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(model, dtype=torch.float32)
    ids = TOKENIZER.encode_framed("abc. abd.")[0]
    wanted = theirs.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0].tolist()
    ours = malmoi.load(model, dtype=torch.float32).generate(
        "abc. abd.", SamplingParams(max_tokens=12, temperature=0.0)
    )
    assert wanted[1:][: len(ours.tokens)] == list(ours.tokens)


def test_a_run_goes_on_from_a_model_that_learned_before(make_text_run: MakeRun, tmp_path: Path) -> None:
    model = train(make_text_run())
    start = FromCheckpoint(path=str(model))
    trainer = Trainer(make_text_run(out=str(tmp_path / "more"), start=start, tokenizer=None), Observer())
    before, after = load_model(model, dtype=torch.float32).state_dict(), trainer.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after)
    said = json.loads((model / "generation_config.json").read_text("utf-8"))
    assert said == {"decoder_start_token_id": PAD, "eos_token_id": END}
    assert trainer.start.generation == said
    assert not (model / "chat_template.jinja").exists()


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (SpanCorruption(), "the tokenizer has no <extra_id_0>, the first of the numbered tokens"),
        (TextInfilling(), "the tokenizer puts nothing behind a text"),
    ],
)
def test_a_tokenizer_of_a_decoder_is_refused_before_the_first_step(
    objective: Denoise, message: str, make_text_run: MakeRun, tmp_path: Path
) -> None:
    ByteTokenizer().save(tmp_path / "plain")
    with pytest.raises(ConfigError, match=message):
        Trainer(make_text_run(objective=objective, tokenizer=str(tmp_path / "plain")), Observer())


def test_a_tokenizer_of_an_encoder_has_what_infilling_needs_and_no_sentinels() -> None:
    encoders = train_bpe_for_encoders(["a"], vocab_size=260)
    with pytest.raises(ConfigError, match="has no <extra_id_0>, the first of the numbered tokens"):
        SpanCorruption().encoder(encoders, None)
    assert TextInfilling().encoder(encoders, None).separator_id == encoders.token_id("[SEP]")


def test_positions_have_to_reach_for_a_text_and_what_frames_it(make_text_run: MakeRun) -> None:
    """A BART has learned so many and no more: the plan's text, as long as any, would be its first error."""
    run = make_text_run(objective=TextInfilling(), context_length=64, total_tokens=128)
    with pytest.raises(
        ConfigError, match="context_length=64, with 1 more for what frames a text, exceeds the 64"
    ):
        train(run)
    train(replace(run, context_length=63))
    assert (
        TextInfilling().num_added(train_bpe_for_encoders(["a"], vocab_size=260)) == 2
    )  # it opens a text, too


def test_a_text_with_more_holes_than_sentinels_is_refused() -> None:
    with pytest.raises(DataError, match="spans need .* sentinels, and there are 100"):
        SpanCorruption(share=0.5, mean_length=1).pose(whole("a" * 300), TOKENIZER, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean_length": 0.0}, "mean_length=0.0 of the spans is not 1 to 500"),
        ({"mean_length": float("nan")}, "mean_length=nan"),
        ({"share": 0.0}, "share=0.0 of a text to take out is not between 0 and 1"),
        ({"share": 1.0}, "share=1.0"),
    ],
)
@pytest.mark.parametrize("kind", [SpanCorruption, TextInfilling])
def test_damage_that_cannot_be_done_is_refused(kind: Any, changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**changes)


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="learning to repair text takes a model of the kind EncoderDecoder"):
        SpanCorruption().fit(tiny_llama(), seed=0)
    shape = SpanCorruption().shape(1, vocab_size=359, max_positions=32)
    with pytest.raises(ConfigError, match="language-model training takes a model of the kind Decoder"):
        NextToken().fit(build_model(shape), seed=0)


def test_a_document_that_is_not_a_text_is_refused(make_text_run: MakeRun, chat_file: str) -> None:
    source = SourceConfig(path=chat_file, messages_field="messages", holdout_permille=0)
    with pytest.raises(
        ConfigError, match="is a conversation, but what is damaged and repaired is a text alone"
    ):
        train(make_text_run(sources=(source,)))


def test_a_compiled_run_is_refused_with_the_reason(make_text_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match="no two batches are equally long. Set compile=false"):
        train(make_text_run(compile=True))


def test_saved_weights_are_read_back(tmp_path: Path) -> None:
    shape = TextInfilling().shape(1, vocab_size=359, max_positions=32)
    model = initialise(build_model(shape), seed=0)
    save_model(model, tmp_path)
    again = load_model(tmp_path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
