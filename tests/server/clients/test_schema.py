"""Schemathesis asks every endpoint what /openapi.json says can be asked, and much that it says cannot."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import Serve
from tests.server.test_encoders import encoder

from malmoi.testing.models import tiny_llama, tiny_llm

pytestmark = pytest.mark.slow

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def test_every_answer_is_as_the_schema_says_and_none_is_an_error_of_the_server(
    start_server: Serve, programs: Callable[[str], Path], tmp_path: Path
) -> None:
    models: dict[str, Any] = {
        "default": tiny_llm(tiny_llama(max_positions=64)),
        "encoder": encoder(),
        "labels": encoder(head="sequence", labels=("부정", "긍정")),
        "rank": encoder(head="sequence", labels=("점수",), problem_type="regression"),
    }
    served = start_server(models)
    program = [
        programs("schemathesis") / "st",
        "run",
        f"{served.url}/openapi.json",
        "--seed=1",
        "--phases=coverage,fuzzing",
        "--max-examples=25",
        "--checks=" + ",".join(CHECKS),
        "--suppress-health-check=all",
        "--generation-database=none",
        "--continue-on-failure",
        "--no-color",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schemathesis_hooks.py"))}
    ended = subprocess.run(
        program, capture_output=True, text=True, timeout=400, cwd=tmp_path, env=os.environ | hooks, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    served.until_idle()
    assert served.num_blocks_in_use == 0
