"""docs/tokenizers.md has the sentence as it is cut today."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_page_of_tokenizers_is_up_to_date() -> None:
    program = Path(__file__).parent.parent / "runs" / "ways_to_cut.py"
    done = subprocess.run([sys.executable, str(program), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "run: python runs/ways_to_cut.py"
