import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

WriteRows = Callable[..., str]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Writes rows as JSONL and returns the path; plain strings become {"text": ...}."""

    def write(rows: Iterable[Any], name: str = "rows.jsonl") -> str:
        objects = [{"text": row} if isinstance(row, str) else row for row in rows]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects), "utf-8")
        return str(path)

    return write
