"""Under load: `bench/serve.py`, small. Clients that break off leave no error, no block and no task behind."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "serve.py"


@pytest.mark.slow
@pytest.mark.parametrize("most", ["256", "4"])
def test_clients_that_come_and_go_leave_nothing_behind(most: str) -> None:
    program = [
        sys.executable,
        str(BENCH),
        "--clients=12",
        "--seconds=4",
        "--rounds=1",
        f"--max-requests={most}",
    ]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = dict(line.strip("| ").split(" | ") for line in ended.stdout.splitlines()[2:])
    assert "200:" in rows["requests"]
    assert ("429:" in rows["requests"]) == (most == "4")
    assert rows["blocks, before and after each round"] == "0, 0"
