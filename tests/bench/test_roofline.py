"""What the machine can do, and what a model asks of it."""

from pathlib import Path

import pytest
import torch

from malmoi.bench.machine import UNKNOWN_CACHE, this_machine
from malmoi.bench.roofline import CACHES, MatrixProducts, ReadStream, Roofline, products_of
from malmoi.bench.subject import random_model
from malmoi.bench.work import Work, step_work, weight_bytes_read
from malmoi.budget import on_paper
from malmoi.models import build_model, require_kind
from malmoi.models.llama import LlamaConfig
from malmoi.models.mixtral import MixtralConfig
from malmoi.nn.quantized import Precision, quantize
from malmoi.nn.stack import Decoder
from malmoi.testing.models import tiny_llama


def test_the_stream_does_not_fit_the_caches_and_its_rate_is_that_of_a_memory() -> None:
    stream = ReadStream(last_cache=80 * 2**20)
    assert stream.buffer.nbytes > CACHES * 80 * 2**20
    assert 1e8 < stream() < 5e12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_best_product_is_one_of_the_shapes_asked_for(dtype: torch.dtype) -> None:
    products = MatrixProducts([(64, 64), (512, 512)], rows=64, dtype=dtype)
    assert (products.best.inputs, products.best.outputs) in {(64, 64), (512, 512)}
    assert 1e6 < products() < 1e16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_computes_the_product(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    ways = list(products_of(8, 32, 16, dtype))
    torch.manual_seed(1)
    x, weight = torch.randn(8, 32).to(dtype), torch.randn(16, 32).to(dtype)
    assert ways
    for way in ways:
        torch.testing.assert_close(way.compute().float(), x.float() @ weight.float().T, rtol=0.02, atol=0.05)


def test_the_slower_of_memory_and_arithmetic_is_the_limit() -> None:
    roofline = Roofline(bandwidth=10, matrix_rate=100)
    few, many = Work(flops=100, bytes=40), Work(flops=1000, bytes=40)
    assert (few.least_seconds(roofline), few.bound(roofline)) == (4, "memory")
    assert (many.least_seconds(roofline), many.bound(roofline), many.intensity) == (10, "arithmetic", 25)


def test_work_is_what_one_counts_by_hand() -> None:
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
        max_positions=128,
    )  # fmt: skip
    model = require_kind(random_model(config, torch.bfloat16), Decoder, for_what="a test")
    twin = require_kind(on_paper(config, torch.bfloat16), Decoder, for_what="a test")
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64  # q and out, k and v, the MLP
    work = step_work(model, twin, batch=3, length=10, num_new=1)
    norms, head, keys = 5 * 32, 32 * 96, 2 * 2 * 2 * 8 * 10
    assert work.bytes == 2 * (2 * layer + norms + head + 3 * 32 + 3 * keys)
    matrices, scores = 2 * (2 * layer + head), 2 * 2 * 4 * 8 * 10 * 2
    assert work.flops == pytest.approx(3 * (matrices + scores), rel=0.02)


def test_a_tied_table_is_read_whole_since_it_is_the_head() -> None:
    model = tiny_llama(is_tied=True)
    assert weight_bytes_read(model, num_tokens=1) == sum(p.nbytes for p in model.parameters())


def test_of_experts_one_token_reads_its_own_and_many_tokens_read_all() -> None:
    config = MixtralConfig(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=8,
        max_positions=128, num_experts=8, top_k=2, is_tied=True,
    )  # fmt: skip
    model = require_kind(build_model(config), Decoder, for_what="a test")
    everything, of_experts = sum(p.nbytes for p in model.parameters()), 8 * 3 * 32 * 64 * 4
    assert weight_bytes_read(model, num_tokens=1) == everything - of_experts * 6 // 8
    assert weight_bytes_read(model, num_tokens=200) == everything


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8.5), ("int4", 4.5)])
def test_of_quantised_weights_the_bytes_that_lie_there_are_read(precision: Precision, bits: float) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=32,
        max_positions=128,
    )  # fmt: skip
    model = require_kind(random_model(config, torch.bfloat16), Decoder, for_what="a test")
    head, layers, norms, row = 64 * 64, 2 * (4 * 64 * 64 + 3 * 64 * 128), 5 * 64, 64
    assert weight_bytes_read(model, num_tokens=1) == 2 * (head + layers + norms + row)
    quantize(model, precision)
    assert weight_bytes_read(model, num_tokens=1) == (head + layers + row) * bits / 8 + 2 * norms


def test_random_weights_keep_ties_and_are_the_same_every_time() -> None:
    config = tiny_llama(is_tied=True).config
    first, second = (random_model(config, torch.bfloat16) for _ in range(2))
    assert first.head.weight is first.embedding.tokens.weight  # type: ignore[union-attr]
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))
    assert all(p.dtype == torch.bfloat16 for p in first.parameters())


def test_a_machine_that_says_nothing_is_still_a_machine(tmp_path: Path) -> None:
    machine = this_machine(tmp_path / "nothing")
    assert (machine.instructions, machine.cores >= 1, machine.last_cache > 0) == ((), True, True)
    assert UNKNOWN_CACHE > 0
    assert "cores: " in str(machine)
