"""A small model runs on one thread, unless one says how many: more of them would wait for each other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from malmoi.cli import loading
from malmoi.cli.engine import EngineSettings
from malmoi.models import build_model, initialise, save_model
from malmoi.models.audio_tower import AudioTowerConfig
from malmoi.models.bert import BertConfig
from malmoi.models.llama import LlamaConfig
from malmoi.models.whisper import WhisperConfig
from malmoi.testing.models import tiny_llm

SHAPE: dict[str, Any] = {"intermediate_size": 24, "num_layers": 1, "num_heads": 2}


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


@pytest.mark.parametrize(
    ("config", "loader"),
    [
        (LlamaConfig(vocab_size=16, hidden_size=8, num_kv_heads=1, head_dim=4, max_positions=8, **SHAPE), "load_llm"),
        (BertConfig(vocab_size=16, hidden_size=8, max_positions=8, **SHAPE), "load_text_encoder"),
        (
            WhisperConfig(
                encoder=AudioTowerConfig(num_mels=4, hidden_size=8, max_positions=10, **SHAPE), vocab_size=16, **SHAPE
            ),
            "load_transcriber",
        ),
        (None, "load_llm"),
    ],
    ids=["decoder", "encoder", "whisper", "shipped"],
)
def test_each_kind_of_model_is_loaded_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any, loader: str
) -> None:
    model = None
    if config is not None:
        save_model(initialise(build_model(config), seed=0), tmp_path)
        model = str(tmp_path)
    called: list[tuple[str, str | None]] = []
    for name in ("load_llm", "load_text_encoder", "load_transcriber"):
        monkeypatch.setattr(loading, name, lambda given, *_, name=name: called.append((name, given)))
    loading.load_any(model, EngineSettings())
    assert called == [(loader, model)]
