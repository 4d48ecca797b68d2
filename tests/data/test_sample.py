"""The corpus that ships with the repository is what its README says it is."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from malmoi.data.documents import Conversation, Text
from malmoi.data.files import read_rows
from malmoi.data.sources import SourceConfig, read_documents

SAMPLE = Path(__file__).parents[2] / "sample"
README = (SAMPLE / "README.md").read_text("utf-8")


FILES = {name: int(rows) for name, rows in re.findall(r"^\| `(\w+\.jsonl\.zst)` \| (\d+) \|", README, re.M)}
SOURCES = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| (\d+) \|", README, re.M)


def test_the_readme_counts_every_row_of_every_source_and_licence() -> None:
    counted: Counter[tuple[str, str]] = Counter()
    for name, num_rows in FILES.items():
        rows = [row.fields for row in read_rows(SAMPLE / name)]
        assert len(rows) == num_rows, name
        counted.update((row["source"].split(":")[0], row["license"]) for row in rows)
    assert counted == {(source, licence): int(number) for source, licence, number in SOURCES}
    assert sorted(path.name for path in SAMPLE.glob("*.zst")) == sorted(FILES)


def test_the_sample_is_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 1_500_000


@pytest.mark.parametrize(
    ("file", "options", "kind"),
    [
        ("prose", {}, Text),
        ("pairs", {"format": "{ko}\n{en}"}, Text),
        ("chat", {"messages_field": "messages", "holdout_by": "text"}, Conversation),
    ],
)
def test_every_file_is_read_as_the_readme_says_and_has_a_held_out_part(
    file: str, options, kind: type
) -> None:
    source = SourceConfig(path=f"{SAMPLE}/{file}.jsonl.zst", **options)
    assert list(read_documents(source, split="held-out"))
    for document in read_documents(source):
        assert isinstance(document, kind)
        text = (
            document.text if isinstance(document, Text) else "".join(m["content"] for m in document.messages)
        )
        assert unicodedata.is_normalized("NFC", text)
