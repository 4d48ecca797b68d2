"""docs/api.md is what its generator writes."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_page_of_the_api_is_up_to_date() -> None:
    program = Path(__file__).parent.parent / "runs" / "api_table.py"
    done = subprocess.run([sys.executable, str(program), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "run: python runs/api_table.py"
