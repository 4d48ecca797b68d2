"""A small model runs on one thread, unless one says how many: more of them would wait for each other."""

import pytest
import torch

from malmoi.cli import loading
from malmoi.cli.engine import EngineSettings
from malmoi.testing.models import tiny_llm


@pytest.mark.parametrize(
    ("small", "threads", "expected"), [(10**9, None, 1), (1, None, 2), (10**9, 3, 3), (1, 1, 1)]
)
def test_only_a_small_model_is_kept_on_one_thread(
    monkeypatch: pytest.MonkeyPatch, small: int, threads: int | None, expected: int
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("malmoi.llm.load", lambda _model, **_options: tiny_llm())
    monkeypatch.setattr(loading, "SMALL", small)
    try:
        torch.set_num_threads(2)
        loading.load_llm(None, EngineSettings(threads=threads))
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
