"""Laws of train/precision.py."""

from pathlib import Path

import pytest
import torch

from malmoi.train import precision
from malmoi.train.precision import resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", torch.bfloat16),
        ("flags\t\t: fpu amx_bf16 amx_tile", torch.bfloat16),
        ("Features\t: fp asimd bf16", torch.bfloat16),
        ("flags\t\t: fpu avx2 avx512f", None),
    ],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: str, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(precision.sys, "platform", "linux")
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_options: cpuinfo)
    precision._cpu_multiplies_bf16.cache_clear()
    assert resolve_precision("auto", CPU) == expected
    precision._cpu_multiplies_bf16.cache_clear()


def test_what_is_said_is_done() -> None:
    assert resolve_precision("bf16", CPU) == torch.bfloat16
    assert resolve_precision("fp32", CPU) is None
