import csv
import io
import json

from malmoi.text.microscope.comparison import Comparison
from malmoi.text.microscope.export import to_csv, to_json


def test_json_has_the_figures_of_every_tokenizer(comparison: Comparison) -> None:
    content = json.loads(to_json(comparison))
    bytes_, letters = content["tokenizers"]
    assert (bytes_["name"], letters["name"]) == ("bytes", "<글자>")
    assert letters["genres"]["뉴스"]["num_tokens"] == content["genres"][0]["num_characters"]
    assert bytes_["genres"]["english"]["tokens_per_syllable"] is None
    assert bytes_["korean"] == bytes_["genres"]["뉴스"]
    assert bytes_["parallel"] == {"num_korean": 24, "num_english": 15, "ratio": 24 / 15}
    assert letters["morphemes"]["recall"] == 1.0
    assert content["prices"]["exchange"]["date"] == comparison.prices.exchange.date.isoformat()
    rate = bytes_["korean"]["tokens_per_syllable"]
    assert bytes_["bills"]["one dollar a million"]["dollars_input"] == rate / 1_000


def test_the_tokens_of_a_sentence_are_its_bytes(comparison: Comparison) -> None:
    sentences = json.loads(to_json(comparison))["sentences"]
    assert [sentence["genre"] for sentence in sentences] == ["뉴스", "english"]
    for sentence in sentences:
        for pieces in sentence["tokens"].values():
            assert bytes.fromhex("".join(piece for _, piece in pieces)).decode() == sentence["text"]


def test_csv_has_the_same_figures_one_a_line(comparison: Comparison) -> None:
    text = to_csv(comparison)
    assert text.startswith("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    found = {(row["tokenizer"], row["part"], row["name"], row["measure"]): row["value"] for row in rows}
    assert len(found) == len(rows)
    content = json.loads(to_json(comparison))
    for one in content["tokenizers"]:
        for genre, figures in one["genres"].items():
            for measure, value in figures.items():
                cell = found[one["name"], "genre", genre, measure]
                assert cell == ("" if value is None else str(value))
        for model, figures in one["bills"].items():
            assert found[one["name"], "bill", model, "won_output"] == str(figures["won_output"])
