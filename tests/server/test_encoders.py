"""Vectors, labels and ranks over HTTP are those that the encoder makes of the same texts."""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from tests.server.conftest import HELLO, Serve, Served

from malmoi.llm import TextEncoder
from malmoi.llm.text_encoder import cosines
from malmoi.models import build_model, initialise, require_kind
from malmoi.models.bert import BertConfig
from malmoi.nn.stack import Encoder
from malmoi.testing.models import tiny_llm
from malmoi.text.training import train_bpe_for_encoders

TEXTS = ["정말 재밌게 봤어요", "돈이 아깝다", "아"]
LABELS = ("부정", "중립", "긍정")


def encoder(**changes: Any) -> TextEncoder:
    config = BertConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        max_positions=64,
        **changes,
    )
    model = require_kind(build_model(config), Encoder, for_what="a test")
    return TextEncoder(initialise(model, seed=0, std=0.3), train_bpe_for_encoders(["a"], vocab_size=260))


@pytest.fixture(scope="module")
def served(start_server: Serve) -> Served:
    models: dict[str, Any] = {
        "plain": encoder(),
        "labels": encoder(head="sequence", labels=LABELS),
        "rank": encoder(head="sequence", labels=("점수",), problem_type="regression"),
        "talker": tiny_llm(),
    }
    return start_server(models)


@pytest.fixture
def plain(served: Served) -> Any:
    return served.models["plain"]


def test_the_clients_vectors_are_the_encoders(served: Served, plain: Any) -> None:
    """OpenAI's client asks for base64 where nothing is said, and for numbers where they are."""
    wanted = plain.embed(TEXTS)
    for options in ({}, {"encoding_format": "float"}):
        found = served.openai.embeddings.create(model="plain", input=TEXTS, **options)
        vectors = torch.tensor([one.embedding for one in found.data])
        assert (vectors - wanted).abs().max() <= 1e-5 * wanted.abs().max()
        assert [one.index for one in found.data] == [0, 1, 2]
    num_tokens = sum(len(plain.tokenizer.encode_framed(text)[0]) for text in TEXTS)
    assert (found.usage.prompt_tokens, found.usage.total_tokens, found.model) == (
        num_tokens,
        num_tokens,
        "plain",
    )


def test_base64_is_little_endian_fp32(served: Served, plain: Any) -> None:
    [data] = served.post("/v1/embeddings", input=TEXTS[0], encoding_format="base64").json()["data"]
    found = np.frombuffer(base64.b64decode(data["embedding"]), "<f4")
    assert found == pytest.approx(plain.embed(TEXTS[:1])[0].numpy(), rel=1e-5, abs=1e-6)


def test_ids_are_read_as_they_are(served: Served, plain: Any) -> None:
    ids = [plain.tokenizer.encode_framed(text)[0] for text in TEXTS]
    of_texts = served.post("/v1/embeddings", input=TEXTS).json()
    of_ids = served.post("/v1/embeddings", input=ids).json()
    for one, other in zip(of_texts["data"], of_ids["data"], strict=True):
        assert one["embedding"] == pytest.approx(other["embedding"], rel=1e-5, abs=1e-6)
    assert of_texts["usage"] == of_ids["usage"]
    [alone] = served.post("/v1/embeddings", input=ids[0]).json()["data"]
    assert alone["embedding"] == pytest.approx(of_ids["data"][0]["embedding"], rel=1e-5, abs=1e-6)


def test_fewer_dimensions_are_the_first_to_the_length_one(served: Served, plain: Any) -> None:
    [data] = served.post("/v1/embeddings", input=TEXTS[0], dimensions=8).json()["data"]
    first = plain.embed(TEXTS[:1])[0, :8]
    assert data["embedding"] == pytest.approx((first / first.norm()).tolist(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"input": []}, "input"),
        ({"input": [[]]}, "input"),
        ({}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": "a" * 63}, "64"),
        ({"input": [999]}, "999"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 33}, "32"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "no_such_thing": 1}, "no_such_thing"),
        ({"input": "a", "model": "talker"}, "writes text"),
        ({"input": "a", "model": "nobody"}, "nobody"),
    ],
    ids=str,
)
def test_what_has_no_vector_is_refused(served: Served, body: dict[str, Any], word: str) -> None:
    response = served.post("/v1/embeddings", **body)
    assert response.status_code in (400, 404)
    assert word in response.json()["error"]["message"]


def test_an_encoder_does_not_talk(served: Served) -> None:
    response = served.post("/v1/chat/completions", model="plain", messages=HELLO)
    assert response.status_code == 400
    assert "reads text" in response.json()["error"]["message"]


def test_a_text_is_cut_into_the_ids_of_an_encoder_too(served: Served, plain: Any) -> None:
    assert served.post("/tokenize", model="plain", text="말").json()["tokens"] == plain.tokenizer.encode("말")


def test_labels_are_the_heads(served: Served) -> None:
    found = served.post("/v1/classify", model="labels", input=TEXTS).json()
    wanted = served.models["labels"].classify(TEXTS)
    assert [one["label"] for one in found["data"]] == [one.label for one in wanted]
    for one, other in zip(found["data"], wanted, strict=True):
        assert one["scores"] == pytest.approx(dict(other.scores), rel=1e-5)
        assert one["score"] == pytest.approx(other.score, rel=1e-5)


def test_no_text_has_no_label(served: Served) -> None:
    response = served.post("/v1/classify", model="labels", input=[])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input")


def test_a_model_without_a_head_has_no_labels(served: Served) -> None:
    response = served.post("/v1/classify", model="plain", input="a")
    assert response.status_code == 400
    assert "no classifier" in response.json()["error"]["message"]


def test_without_a_head_documents_are_ranked_by_their_cosine(served: Served, plain: Any) -> None:
    query, *documents = TEXTS
    found = served.post("/v1/rerank", query=query, documents=documents).json()["results"]
    wanted = cosines(plain.embed(TEXTS))[0, 1:].tolist()
    assert [one["relevance_score"] for one in found] == pytest.approx(sorted(wanted, reverse=True), rel=1e-4)
    assert [one["document"]["text"] for one in found] == [documents[one["index"]] for one in found]


def test_a_head_of_one_label_ranks_pairs(served: Served) -> None:
    query, *documents = TEXTS
    found = served.post("/v1/rerank", model="rank", query=query, documents=documents).json()["results"]
    pairs = [(query, document) for document in documents]
    wanted = [one.score for one in served.models["rank"].classify(pairs)]
    assert {one["index"]: one["relevance_score"] for one in found} == pytest.approx(
        dict(enumerate(wanted)), rel=1e-4
    )
    assert found[0]["relevance_score"] >= found[1]["relevance_score"]


def test_only_the_best_come_back_and_without_their_texts_if_so_asked(served: Served) -> None:
    asked = {"query": "a", "documents": TEXTS}
    whole = served.post("/v1/rerank", **asked).json()["results"]
    [best] = served.post("/v1/rerank", **asked, top_n=1, return_documents=False).json()["results"]
    assert best == {key: value for key, value in whole[0].items() if key != "document"}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"documents": []}, "documents"),
        ({"model": "labels"}, "3 labels"),
        ({"top_n": 0}, "top_n"),
        ({"max_tokens_per_doc": 5}, "max_tokens_per_doc"),
    ],
    ids=str,
)
def test_what_cannot_be_ranked_is_refused(served: Served, body: dict[str, Any], word: str) -> None:
    response = served.post("/v1/rerank", **{"query": "a", "documents": ["b"], **body})
    assert response.status_code == 400
    assert word in response.json()["error"]["message"]


def test_texts_of_many_clients_are_read_each_as_alone(served: Served, plain: Any) -> None:
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda text: served.post("/v1/embeddings", input=text).json(), TEXTS * 8))
    wanted = plain.embed(TEXTS).tolist() * 8
    for answer, vector in zip(answers, wanted, strict=True):
        assert answer["data"][0]["embedding"] == pytest.approx(vector, rel=1e-4, abs=1e-6)
