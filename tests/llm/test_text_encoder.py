"""Laws of llm/text_encoder.py and pooling.py: the vectors and labels of transformers, from the same directory."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from malmoi.core.errors import CheckpointError, ConfigError, RequestError
from malmoi.engine import AsyncPoolEngine
from malmoi.llm import TextEncoder
from malmoi.llm.pooling import Pooling, read_pooling, write_pooling
from malmoi.models import build_model, initialise, save_model
from malmoi.models.bert import BertConfig
from malmoi.models.roberta import RobertaConfig
from malmoi.text.training import train_bpe_for_encoders

TEXTS = ["정말 재밌게 봤어요", "돈이 아깝다", "[SEP] 괄호도 글이다", "아"]
LABELS = ("부정", "중립", "긍정")
SHAPE: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_layers": 2,
    "num_heads": 4,
    "max_positions": 64,
}
MakeDirectory = Callable[..., Path]


@pytest.fixture
def make_directory(tmp_path: Path) -> MakeDirectory:
    def make(config: BertConfig) -> Path:
        save_model(initialise(build_model(config), seed=0, std=0.3), tmp_path)
        train_bpe_for_encoders(["a"], vocab_size=260).save(tmp_path)
        return tmp_path

    return make


@torch.no_grad()
def reference(directory: Path, *texts: list[str]) -> Any:
    """Transformers' own way: padded, with a mask. Its tokenizer reads special tokens in a text, ours does not."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    config = transformers.AutoConfig.from_pretrained(directory)
    inputs = tokenizer(*texts, padding=True, return_tensors="pt", split_special_tokens=True)
    model = getattr(transformers, config.architectures[0]).from_pretrained(directory).eval()
    return model(**inputs), inputs["attention_mask"]


def assert_close(ours: Tensor, wanted: Tensor) -> None:
    assert ours.shape == wanted.shape
    assert ours.isfinite().all()
    assert (ours - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("kind", ["mean", "first"])
@pytest.mark.parametrize("is_normalised", [False, True])
def test_vectors_are_those_of_transformers_pooled_as_the_directory_says(
    make_directory: MakeDirectory, kind: Any, is_normalised: bool
) -> None:
    directory = make_directory(BertConfig(**SHAPE))
    write_pooling(directory, Pooling(kind=kind, is_normalised=is_normalised), hidden_size=32)
    out, mask = reference(directory, TEXTS)
    states = out.last_hidden_state
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    wanted = means if kind == "mean" else states[:, 0]
    if is_normalised:
        wanted = wanted / wanted.norm(dim=-1, keepdim=True)
    assert_close(TextEncoder.load(directory).embed(TEXTS), wanted)


@pytest.mark.parametrize("config", [BertConfig, RobertaConfig])
def test_labels_and_probabilities_are_those_of_transformers(
    make_directory: MakeDirectory, config: Any
) -> None:
    changes = {"pad_id": 0} if config is RobertaConfig else {}
    directory = make_directory(config(**SHAPE, head="sequence", labels=LABELS, **changes))
    out, _ = reference(directory, TEXTS)
    wanted = out.logits.softmax(-1)
    found = TextEncoder.load(directory).classify(TEXTS)
    assert_close(torch.tensor([list(one.scores.values()) for one in found]), wanted)
    assert [one.label for one in found] == [LABELS[i] for i in wanted.argmax(-1)]
    assert [one.score for one in found] == pytest.approx(wanted.amax(-1).tolist())


def test_a_pair_is_read_as_one_input_of_two_segments(make_directory: MakeDirectory) -> None:
    directory = make_directory(BertConfig(**SHAPE, head="sequence", labels=LABELS))
    firsts, seconds = TEXTS[:2], TEXTS[2:]
    wanted, _ = reference(directory, firsts, seconds)
    found = TextEncoder.load(directory).classify(list(zip(firsts, seconds, strict=True)))
    assert_close(torch.tensor([list(one.scores.values()) for one in found]), wanted.logits.softmax(-1))


@pytest.mark.parametrize(
    ("problem_type", "of_logits"),
    [("multi_label_classification", torch.sigmoid), ("regression", lambda logits: logits)],
)
def test_scores_are_what_the_problem_says(
    make_directory: MakeDirectory, problem_type: Any, of_logits: Callable[[Tensor], Tensor]
) -> None:
    config = BertConfig(**SHAPE, head="sequence", labels=LABELS, problem_type=problem_type)
    directory = make_directory(config)
    out, _ = reference(directory, TEXTS)
    found = TextEncoder.load(directory).classify(TEXTS)
    assert_close(torch.tensor([list(one.scores.values()) for one in found]), of_logits(out.logits))


def test_how_texts_are_cut_into_forwards_changes_nothing(make_directory: MakeDirectory) -> None:
    encoder = TextEncoder.load(make_directory(BertConfig(**SHAPE)))
    together = encoder.embed(TEXTS)
    in_parts = TextEncoder(encoder.model, encoder.tokenizer, tokens_per_step=40)
    assert_close(in_parts.embed(TEXTS), together)
    assert_close(torch.cat([encoder.embed([text]) for text in TEXTS]), together)
    assert encoder.embed([]).shape == (0, 32)


def test_a_text_that_is_too_long_is_refused_by_its_number(make_directory: MakeDirectory) -> None:
    encoder = TextEncoder.load(make_directory(BertConfig(**SHAPE)))
    with pytest.raises(RequestError, match=r"text 1 has 92 tokens, but the model reads 1 to 64. Shorten it"):
        encoder.embed(["가", "가" * 30])
    assert encoder.embed(["a" * 62]).shape == (1, 32)


def test_the_directory_may_allow_less_than_the_model(make_directory: MakeDirectory) -> None:
    directory = make_directory(BertConfig(**SHAPE))
    write_pooling(directory, Pooling(max_tokens=8), hidden_size=32)
    with pytest.raises(RequestError, match="the model reads 1 to 8"):
        TextEncoder.load(directory).embed(["a" * 7])


def test_requests_of_many_clients_get_what_they_get_alone(make_directory: MakeDirectory) -> None:
    """Vectors, labels of a text and labels of a pair, read side by side."""
    encoder = TextEncoder.load(make_directory(BertConfig(**SHAPE, head="sequence", labels=LABELS)))
    pair = (TEXTS[0], TEXTS[1])
    vectors, labels = encoder.embed(TEXTS), encoder.classify([*TEXTS, pair])

    async def main() -> None:
        async with AsyncPoolEngine(encoder.engine) as engine:
            to_embed = [engine.pool(encoder.embedding_request(text)) for text in TEXTS]
            to_classify = [
                engine.pool(encoder.classification_request(text, priority=-1)) for text in (*TEXTS, pair)
            ]
            found = await asyncio.gather(*to_embed, *to_classify)
        assert_close(torch.stack(found[: len(TEXTS)]), vectors)
        for scores, wanted in zip(found[len(TEXTS) :], labels, strict=True):
            assert encoder.classification(scores).scores == pytest.approx(dict(wanted.scores))

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_request_that_cannot_be_made_says_so(make_directory: MakeDirectory) -> None:
    encoder = TextEncoder.load(make_directory(BertConfig(**SHAPE)))
    with pytest.raises(RequestError, match="the text has 92 tokens, but the model reads 1 to 64"):
        encoder.embedding_request("가" * 30)
    with pytest.raises(ConfigError, match="no classifier of texts"):
        encoder.classification_request("가")


def test_numbers_that_are_not_finite_are_no_vector(make_directory: MakeDirectory) -> None:
    encoder = TextEncoder.load(make_directory(BertConfig(**SHAPE)))
    with torch.no_grad():
        next(encoder.model.blocks[0].parameters()).fill_(torch.inf)
    with pytest.raises(RequestError, match="is not finite. Its weights are damaged"):
        encoder.embed(TEXTS)


def test_what_cannot_classify_or_embed_says_so(make_directory: MakeDirectory, tmp_path: Path) -> None:
    encoder = TextEncoder.load(make_directory(BertConfig(**SHAPE)))
    with pytest.raises(ConfigError, match="no classifier of texts"):
        encoder.classify(TEXTS)
    from malmoi.testing.models import tiny_llama

    save_model(tiny_llama(), tmp_path)
    with pytest.raises(ConfigError, match="Decoder"):
        TextEncoder.load(tmp_path)


@pytest.mark.parametrize("pooling", [Pooling(), Pooling(kind="first", is_normalised=True, max_tokens=128)])
def test_pooling_survives_its_files(pooling: Pooling, tmp_path: Path) -> None:
    write_pooling(tmp_path, pooling, hidden_size=768)
    assert read_pooling(tmp_path) == pooling


def test_published_files_of_sentence_transformers_are_read(tmp_path: Path) -> None:
    """Those of jhgan/ko-sroberta-multitask."""
    steps = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    modules = [
        {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for name, path, kind in steps
    ]
    modes = {"cls_token": False, "mean_tokens": True, "max_tokens": False, "mean_sqrt_len_tokens": False}
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    pooling = {"word_embedding_dimension": 768} | {f"pooling_mode_{mode}": on for mode, on in modes.items()}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 128, "do_lower_case": false}')
    assert read_pooling(tmp_path) == Pooling(kind="mean", max_tokens=128)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", "{}", r"steps \[\] are not Transformer, Pooling"),
        ("modules.json", "[1]", "not a list of steps"),
        ("modules.json", '[{"type": "a.Transformer"}, {"type": "a.Dense", "path": ""}]', "'Dense'"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', r"\['max_tokens'\] are not one of"),
        (
            "1_Pooling/config.json",
            '{"pooling_mode_cls_token": 1, "pooling_mode_mean_tokens": 1}',
            "not one of",
        ),
        ("sentence_bert_config.json", '{"do_lower_case": true}', "do_lower_case=true"),
    ],
)
def test_a_step_that_we_do_not_compute_is_refused(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    write_pooling(tmp_path, Pooling(), hidden_size=32)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_pooling(tmp_path)


def test_vectors_can_be_learned_from(make_directory: MakeDirectory) -> None:
    """They are ordinary tensors, on which somebody may train a classifier of their own."""
    weight = torch.zeros(32, requires_grad=True)
    (TextEncoder.load(make_directory(BertConfig(**SHAPE))).embed(TEXTS) @ weight).sum().backward()
    assert weight.grad is not None
