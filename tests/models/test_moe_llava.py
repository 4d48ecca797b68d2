"""Sparse upcycling: right after it nothing has changed, and from there on the experts go their own ways."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.models import build_model, load_model, save_model
from malmoi.models.clip import ClipConfig
from malmoi.models.gpt2 import GPT2Config
from malmoi.models.llama import LlamaConfig
from malmoi.models.llava import LlavaConfig
from malmoi.models.mixtral import MixtralConfig
from malmoi.models.moe_llava import upcycle
from malmoi.nn.moe import MoE
from malmoi.nn.multimodal import Multimodal

SMALL: dict[str, Any] = {"vocab_size": 61, "hidden_size": 24, "num_heads": 4, "max_positions": 64}
GROUPED: dict[str, Any] = {"num_layers": 3, "intermediate_size": 40, "num_kv_heads": 2, "head_dim": 6}
LLAMA = LlamaConfig(**SMALL, **GROUPED)
LLAVA = LlavaConfig(
    vision=ClipConfig(
        hidden_size=12, intermediate_size=20, num_layers=2, num_heads=3, image_size=8, patch_size=4
    ),
    text=LLAMA,
    image_token=60,
)
Randomise = Callable[[Any], Any]


def dense(randomise: Randomise, text: Any = LLAMA) -> Multimodal:
    model: Multimodal = randomise(build_model(replace(LLAVA, text=text))).eval()
    return model


def inputs() -> dict[str, Tensor]:
    tokens = torch.randint(60, (2, 12))
    tokens[:, 3:7] = 60
    return {"tokens": tokens, "images": torch.randn(2, 3, 8, 8)}


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize(
    "text", [LLAMA, GPT2Config(**SMALL, num_layers=3, intermediate_size=40)], ids=["llama", "gpt2"]
)
@torch.no_grad()
def test_right_after_upcycling_nothing_has_changed_whatever_the_router_says(
    text: Any, top_k: int, randomise: Randomise, assert_close: Callable[..., None]
) -> None:
    source, batch = dense(randomise, text), inputs()
    sparse = upcycle(source, num_experts=4, top_k=top_k)
    for scale in (0.02, 1.0, 1000.0):
        for name, parameter in sparse.named_parameters():
            if "router" in name:
                parameter.normal_(std=scale)
        assert_close(sparse(**batch).logits, source(**batch).logits)


def test_every_second_layer_is_sparse_and_the_source_stays_as_it_was(randomise: Randomise) -> None:
    source = dense(randomise)
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    sparse = upcycle(source)
    assert [isinstance(block.ffn.mixer, MoE) for block in sparse.blocks] == [True, False, True]
    assert len(sparse.blocks[0].ffn.mixer.experts) == 4
    after = source.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    sparse.blocks[0].ffn.mixer.experts[0].up.weight.data.zero_()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_was_upcycled_is_saved_and_loaded(randomise: Randomise, tmp_path: Path) -> None:
    sparse = upcycle(dense(randomise).to(torch.bfloat16), num_experts=3, top_k=2, every=1)
    save_model(sparse, tmp_path)
    again = load_model(tmp_path)
    assert again.config == sparse.config
    assert again.config.sparse_layers == (0, 1, 2)
    assert not again.training
    assert not sparse.training
    ours, theirs = sparse.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_equal_experts_come_apart_in_training(randomise: Randomise) -> None:
    """They are as many copies, but tokens choose different ones, so their gradients differ."""
    sparse = upcycle(dense(randomise), num_experts=3)
    sparse(**inputs()).logits.log_softmax(-1)[..., 0].sum().backward()
    first, second, third = (expert.up.weight.grad for expert in sparse.blocks[0].ffn.mixer.experts)
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)


def test_the_routers_depend_on_the_seed_alone(randomise: Randomise) -> None:
    source = dense(randomise)
    first, again, other = (upcycle(source, seed=seed).state_dict() for seed in (1, 1, 2))
    router = "blocks.0.ffn.mixer.router.score.weight"
    assert torch.equal(first[router], again[router])
    assert not torch.equal(first[router], other[router])


def test_what_cannot_be_upcycled_is_refused(randomise: Randomise) -> None:
    with pytest.raises(ConfigError, match="layer 0 has no dense network but MoE. Use a dense decoder"):
        upcycle(dense(randomise, MixtralConfig(**SMALL, **GROUPED, num_experts=2)))
    with pytest.raises(ConfigError, match="MoELlavaConfig is not a LLaVA's configuration"):
        upcycle(upcycle(dense(randomise)))
    with pytest.raises(ConfigError, match="top_k=5 experts a token cannot be chosen of 4"):
        upcycle(dense(randomise), top_k=5)
