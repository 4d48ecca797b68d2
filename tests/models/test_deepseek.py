"""What is DeepSeek's alone: layers for another task, a bias that is never rounded, stored weights that are not read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.models import build_model, count_parameters, load_model, save_model
from malmoi.models.deepseek import deepseek_v2_lite
from malmoi.models.deepseek_v3 import DeepseekV3Config
from malmoi.nn.stack import Decoder

CONFIG = DeepseekV3Config(
    vocab_size=61, hidden_size=24, intermediate_size=20, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=4,
    content_dim=6, value_dim=5, kv_rank=8, max_positions=64, expert_intermediate_size=12, num_dense_layers=1,
    num_experts=4, top_k=2, num_shared_experts=1,
)  # fmt: skip
ONE_TOKEN_MORE = ["embed_tokens.weight", "enorm.weight", "eh_proj.weight", "shared_head.norm.weight"] + [
    f"mlp.{name}" for name in ("gate.e_score_correction_bias", "experts.0.up_proj.weight")
]


@pytest.fixture
def model(randomise: Callable[[Any], Any]) -> Decoder:
    built: Decoder = randomise(build_model(CONFIG)).eval()
    return built


def add(directory: Path, names: list[str]) -> None:
    file = directory / "model.safetensors"
    save_file(load_file(file) | {name: torch.ones(2) for name in names}, file, metadata={"format": "pt"})


def test_the_layers_that_predict_one_token_more_are_left_out(model: Decoder, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    add(tmp_path, [f"model.layers.61.{name}" for name in ONE_TOKEN_MORE])
    loaded = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_another_layer_too_many_is_refused(model: Decoder, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    add(tmp_path, ["model.layers.2.self_attn.kv_b_proj.weight"])
    with pytest.raises(CheckpointError, match=r"has the tensor 'model.layers.2.self_attn.kv_b_proj.weight'"):
        load_model(tmp_path)


def test_the_bias_of_the_choice_is_rounded_neither_in_memory_nor_in_files(
    model: Decoder, tmp_path: Path
) -> None:
    def bias(of: Any) -> Tensor:
        found: Tensor = of.blocks[1].ffn.mixer.router.bias
        return found

    exact = bias(model).clone()
    save_model(model, tmp_path, dtype=torch.bfloat16)
    assert torch.equal(bias(load_model(tmp_path)), exact)
    assert torch.equal(bias(load_model(tmp_path, dtype=torch.bfloat16)), exact)
    save_model(model.to(torch.bfloat16), tmp_path)
    assert torch.equal(bias(load_model(tmp_path, dtype=torch.float32)), exact)
    assert load_model(tmp_path).dtype == torch.bfloat16


def test_v2_lite_is_as_large_as_published() -> None:
    """15.7B, and 2.4B active (arXiv:2405.04434, appendix B), which leaves the embeddings out."""
    with torch.device("meta"):
        model = build_model(deepseek_v2_lite())
    experts = sum(count_parameters(block.ffn.mixer.experts) for block in list(model.blocks)[1:])
    active = count_parameters(model) - experts * (1 - 6 / 64) - model.embedding.tokens.weight.numel()
    assert count_parameters(model) / 1e9 == pytest.approx(15.7, abs=0.05)
    assert active / 1e9 == pytest.approx(2.4, abs=0.06)


def test_groups_that_experts_do_not_fill_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_experts=4 do not make 3 equal groups of at least 2"):
        build_model(DeepseekV3Config(**(vars(CONFIG) | {"num_groups": 3})))
