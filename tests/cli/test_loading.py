"""A small model runs on one thread: more of them would wait for each other."""

import pytest
import torch

from malmoi.cli import loading
from malmoi.testing.models import tiny_llm


@pytest.mark.parametrize(("small", "expected"), [(10**9, 1), (1, 2)])
def test_only_a_small_model_is_kept_on_one_thread(
    monkeypatch: pytest.MonkeyPatch, small: int, expected: int
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("malmoi.llm.load", lambda _model: tiny_llm())
    monkeypatch.setattr(loading, "SMALL", small)
    try:
        torch.set_num_threads(2)
        loading.load_llm(None)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
