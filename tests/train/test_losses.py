"""Laws of train/losses.py: chunking changes what is in memory, never the loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from malmoi.core.errors import ConfigError
from malmoi.data.pack import PackedBatch
from malmoi.models import build_model, initialise
from malmoi.models.gemma2 import Gemma2Config
from malmoi.nn.soft_cap import SoftCap
from malmoi.train import losses
from malmoi.train.forward import Forward
from malmoi.train.losses import ChunkedCrossEntropy, load_balancing_loss, matrix_of, rows_per_chunk
from malmoi.train.objective import NextToken


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows at a time, so that a few tokens are several chunks and the last one is short."""
    monkeypatch.setattr(losses, "LOGITS_PER_CHUNK", 0)
    monkeypatch.setattr(losses, "MIN_ROWS", 7)


def example(t: int, d: int, v: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, a head, and targets of which every third is missing."""
    hidden = torch.randn(1, t, d).to(dtype).requires_grad_()
    weight = torch.randn(v, d, requires_grad=True)
    targets = torch.randint(0, v, (1, t))
    targets[:, 1::3] = -100
    return hidden, weight, targets


def plain_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """PyTorch's own, over all logits at once."""
    return F.cross_entropy(hidden[0].float() @ weight.T, targets[0], ignore_index=-100, reduction="sum")


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return [gradient.float() for gradient in torch.autograd.grad(loss, of)]


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=25)
@given(t=st.integers(1, 30), d=st.integers(1, 9), v=st.integers(2, 41), scale=st.floats(0.1, 10))
def test_loss_and_gradients_are_those_of_pytorch_at_any_size(t: int, d: int, v: int, scale: float) -> None:
    hidden, weight, targets = example(t, d, v)
    ours, theirs = (scale * loss(hidden, weight, targets) for loss in (ChunkedCrossEntropy(), plain_loss))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        gradients(ours, hidden, weight), gradients(theirs, hidden, weight), atol=1e-4, rtol=1e-4
    )


@pytest.mark.usefixtures("small_chunks")
def test_bf16_states_give_nearly_the_loss_and_gradients_of_fp32() -> None:
    hidden, weight, targets = example(64, 16, 50, torch.bfloat16)
    ours, theirs = ChunkedCrossEntropy()(hidden, weight, targets), plain_loss(hidden, weight, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=0)
    for got, wanted in zip(gradients(ours, hidden, weight), gradients(theirs, hidden, weight), strict=True):
        assert (got - wanted).norm() < 0.02 * wanted.norm()


def test_rows_without_a_target_count_nothing() -> None:
    hidden, weight, targets = example(5, 4, 8)
    loss = ChunkedCrossEntropy()(hidden, weight, torch.full_like(targets, -100))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients(loss, hidden, weight))


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes, in numbers."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return made


@pytest.mark.parametrize("num_tokens", [1024, 8192])
def test_no_tensor_is_larger_than_one_chunk_of_logits_however_many_tokens_there_are(num_tokens: int) -> None:
    vocab_size = 128_000
    with torch.device("meta"):  # shapes without memory
        hidden = torch.empty(1, num_tokens, 64, requires_grad=True)
        weight = torch.empty(vocab_size, 64, requires_grad=True)
        targets = torch.empty(1, num_tokens, dtype=torch.long)
    with LargestTensor() as largest:
        ChunkedCrossEntropy()(hidden, weight, targets).backward()
    assert largest.numel == rows_per_chunk(vocab_size) * vocab_size == 256 * 128_000
    with LargestTensor() as largest:
        plain_loss(hidden, weight, targets).backward()
    assert largest.numel == num_tokens * vocab_size


@pytest.mark.parametrize(("num_experts", "top_k"), [(4, 1), (6, 2), (5, 5)])
def test_the_load_balancing_loss_equals_transformers(num_experts: int, top_k: int) -> None:
    layers = [(3 * torch.randn(7, num_experts)).requires_grad_() for _ in range(3)]
    loss = load_balancing_loss(layers, num_experts=num_experts, top_k=top_k)
    wanted = load_balancing_loss_func(tuple(layers), num_experts, top_k)
    torch.testing.assert_close(loss, wanted)
    for ours, theirs in zip(
        torch.autograd.grad(loss, layers), torch.autograd.grad(wanted, layers), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=25)
@given(t=st.integers(1, 30), v=st.integers(2, 41), cap=st.floats(0.5, 50), has_bias=st.booleans())
def test_capped_and_biased_logits_have_the_loss_and_gradients_of_the_plain_computation(
    t: int, v: int, cap: float, has_bias: bool
) -> None:
    hidden, weight, targets = example(t, 6, v)
    bias = torch.randn(v, requires_grad=True) if has_bias else None
    logits = F.linear(hidden[0], weight, bias)
    theirs = F.cross_entropy(SoftCap(cap)(logits), targets[0], ignore_index=-100, reduction="sum")
    ours = ChunkedCrossEntropy(cap=cap)(hidden, weight, targets, bias=bias)
    torch.testing.assert_close(ours, theirs)
    of = [hidden, weight] if bias is None else [hidden, weight, bias]
    torch.testing.assert_close(gradients(ours, *of), gradients(theirs, *of), atol=1e-4, rtol=1e-4)


def test_the_loss_of_a_capped_head_is_that_of_the_models_logits() -> None:
    config = Gemma2Config(
        vocab_size=61, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8,
        max_positions=32, window=8, layer_pattern="LG", query_scalar=8, score_cap=5.0, logit_cap=0.5,
    )  # fmt: skip
    model = NextToken().fit(initialise(build_model(config), seed=0, std=0.5), seed=0)
    tokens = torch.randint(61, (1, 12))
    batch = PackedBatch(tokens=tokens, targets=tokens.roll(-1), lengths=(12,))
    logits = model(tokens).logits[0]
    assert logits.abs().max() > 0.4  # without a cap they would be far beyond it
    wanted = F.cross_entropy(logits, batch.targets[0], reduction="sum")
    torch.testing.assert_close(Forward(model, is_compiled=False)(batch), wanted)


def test_a_head_that_is_no_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match="the head of this model is a Identity, but the chunked loss knows"):
        matrix_of(nn.Identity())
