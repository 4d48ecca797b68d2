"""A page of `malmoi.models` is a page."""

from importlib import import_module
from pathlib import Path

import pytest

import malmoi.models

MAX_LINES = 155
FILES = sorted(
    file.stem for file in Path(malmoi.models.__file__).parent.glob("*.py") if file.stem != "__init__"
)
PAGES = [name for name in FILES if hasattr(import_module(f"malmoi.models.{name}"), "FAMILIES")]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_on_a_page(page: str) -> None:
    file = Path(malmoi.models.__file__).with_name(f"{page}.py")
    num_lines = len(file.read_text("utf-8").splitlines())
    assert num_lines <= MAX_LINES, (
        f"{file.name} has {num_lines} lines, {num_lines - MAX_LINES} too many: what it shares with another page "
        "belongs in a file beside them, as llama_shape.py"
    )
