"""A comparison for programs: JSON with everything, CSV with one figure a line.

    comparison.py -> EXPORT -> files

Keys are the names of the fields and properties in `comparison.py`, `counts.py`, `borders.py` and `prices.py`.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from malmoi.text.microscope.borders import Agreement
from malmoi.text.microscope.comparison import Comparison, Examined
from malmoi.text.microscope.counts import Counts
from malmoi.text.microscope.measures import MEASURES


def to_json(comparison: Comparison) -> str:
    """Sums and figures of every tokenizer, prices, and the sentences as (id, bytes in hexadecimal); null is "none"."""
    material = comparison.material
    return json.dumps(
        {
            "genres": [
                {
                    "name": genre.name,
                    "num_texts": len(genre.texts),
                    "num_bytes": genre.num_bytes,
                    "num_characters": genre.num_characters,
                    "num_syllables": genre.num_syllables,
                    "num_eojeols": genre.num_eojeols,
                    "is_korean": genre.is_korean,
                }
                for genre in material.genres
            ],
            "num_pairs": len(material.pairs),
            "num_analysed": len(material.analysed),
            "morphemes_from": material.morphemes_from or None,
            "prices": asdict(comparison.prices),
            "tokenizers": [_examined(comparison, one) for one in comparison.tokenizers],
            "sentences": [
                {
                    "genre": genre,
                    "text": text,
                    "tokens": {
                        one.name: [[piece.token, piece.bytes.hex()] for piece in one.sentences[genre]]
                        for one in comparison.tokenizers
                    },
                }
                for genre, text in material.sentences.items()
            ],
        },
        ensure_ascii=False,
        indent=1,
        default=str,  # a date
    )


def to_csv(comparison: Comparison) -> str:
    """Lines of tokenizer, part, name, measure, value; the mark in front tells Excel that Korean names are UTF-8."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("tokenizer", "part", "name", "measure", "value"))
    for one in comparison.tokenizers:
        for part, name, figures in _parts(comparison, one):
            for measure, value in figures.items():
                writer.writerow((one.name, part, name, measure, "" if value is None else value))
    return "\ufeff" + out.getvalue()


def _parts(comparison: Comparison, one: Examined) -> Iterator[tuple[str, str, dict[str, float | None]]]:
    yield "vocabulary", "", {"vocab_size": one.vocab_size}
    for genre, counts in one.counts.items():
        yield "genre", genre, _counted(counts)
    if one.korean:
        yield "korean", "", _counted(one.korean)
    yield "syllables", "", asdict(one.coverage)
    if one.pairs:
        yield "parallel", "", asdict(one.pairs) | {"ratio": one.pairs.ratio}
    if one.agreement:
        yield "morphemes", "", _agreeing(one.agreement)
    for bill in comparison.bills(one):
        yield "bill", bill.price.model, {k: v for k, v in asdict(bill).items() if k != "price"}


def _examined(comparison: Comparison, one: Examined) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "genres": {}, "bills": {}}
    for part, name, figures in _parts(comparison, one):
        match part:
            case "vocabulary":
                found |= figures
            case "genre":
                found["genres"][name] = figures
            case "bill":
                found["bills"][name] = figures
            case _:
                found[part] = figures
    return found


def _counted(counts: Counts) -> dict[str, float | None]:
    return asdict(counts) | {measure.name: measure.of(counts) for measure in MEASURES}


def _agreeing(agreement: Agreement) -> dict[str, float | None]:
    return asdict(agreement) | {
        "precision": agreement.precision,
        "recall": agreement.recall,
        "f1": agreement.f1,
    }
