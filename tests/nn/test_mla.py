"""Attention over latents: both forms are one function, and what is cached is a latent and one rotated key."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.models import build_model
from malmoi.models.registry import find_preset
from malmoi.nn import packed
from malmoi.nn.attend import AttentionRule
from malmoi.nn.cache import DenseCache, KeyValues, PackedLayout, PagedCache, PagedStep, Ragged, Rows
from malmoi.nn.context import Context
from malmoi.nn.kernels.reference import rows_attention_reference
from malmoi.nn.linear import Linear
from malmoi.nn.mla import LatentAttention
from malmoi.nn.packed import PackedLinear, prepack
from malmoi.nn.quantized import quantize
from malmoi.nn.rope import Rope, RopeConfig, rotate_neighbours
from malmoi.nn.stack import Model

HIDDEN_SIZE, NUM_HEADS, CONTENT, TURNED, VALUE, RANK = 16, 4, 6, 4, 5, 12


@pytest.fixture(params=[None, 7], ids=["queries of full rank", "compressed queries"])
def attention(request: pytest.FixtureRequest) -> LatentAttention:
    return latent_attention(query_rank=request.param)


def latent_attention(**changes: Any) -> LatentAttention:
    sizes = {"content_dim": CONTENT, "rope_dim": TURNED, "value_dim": VALUE, "kv_rank": RANK}
    layer = LatentAttention(
        hidden_size=HIDDEN_SIZE, num_heads=NUM_HEADS, **(sizes | {"rule": AttentionRule()} | changes)
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def in_context(context: Context) -> Context:
    rope = Rope(RopeConfig(theta=100.0), head_dim=TURNED)
    return context.rotated(torch.nn.ModuleDict({"default": rope}))


def rows_context(layer: LatentAttention, num_rows: int, length: int, **rest: Any) -> Context:
    return in_context(Context.rows(num_rows, length, specs=[layer.cache_spec], **rest))


def ragged(queries: list[int], keys: list[int]) -> Callable[[Tensor], KeyValues]:
    offsets = [torch.tensor([0, *lengths]).cumsum(0) for lengths in (queries, keys)]
    return lambda k: Ragged(k, k[..., :0], *offsets)


CACHED: dict[str, tuple[int, int, int, Callable[[Tensor], KeyValues]]] = {
    "rows, whole": (2, 5, 5, lambda k: Rows(k, k[..., :0])),
    "rows, one query": (3, 1, 9, lambda k: Rows(k, k[..., :0])),
    "rows, a chunk": (2, 4, 9, lambda k: Rows(k, k[..., :0])),
    "packed, decoding beside a prompt": (1, 1 + 3 + 1, 4 + 3 + 6, ragged([1, 3, 1], [4, 3, 6])),
}


@pytest.mark.parametrize(("num_rows", "num_queries", "num_keys", "cached"), CACHED.values(), ids=CACHED)
@pytest.mark.parametrize(
    "rule", [AttentionRule(), AttentionRule(window=3), AttentionRule(scale=0.7)], ids=str
)
def test_the_absorbed_form_equals_the_expanded_one(
    num_rows: int, num_queries: int, num_keys: int, cached: Callable[[Tensor], KeyValues], rule: AttentionRule
) -> None:
    """Results and gradients, to the queries, to what is cached, and to the matrices."""
    layer = latent_attention(rule=rule)
    content = torch.randn(num_rows, num_queries, NUM_HEADS, CONTENT, requires_grad=True)
    turned = torch.randn(num_rows, num_queries, NUM_HEADS, TURNED, requires_grad=True)
    kept = torch.randn(num_rows, num_keys, 1, RANK + TURNED, requires_grad=True)
    outs = [form(content, turned, cached(kept)) for form in (layer.absorbed, layer.expanded)]
    assert outs[0].shape == (num_rows, num_queries, NUM_HEADS, VALUE)
    inputs, grad = [content, turned, kept, layer.expand.weight], torch.randn_like(outs[0])
    grads = [torch.autograd.grad(out, inputs, grad) for out in outs]
    for ours, wanted in zip([outs[0], *grads[0]], [outs[1], *grads[1]], strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5 * max(1.0, wanted.abs().max().item()))


def test_it_is_the_attention_of_the_paper(attention: LatentAttention) -> None:
    """Section 2.1 head by head: a query and a key of two parts each, one of them rotated, and shared among the keys."""
    x, context = torch.randn(2, 5, HIDDEN_SIZE), rows_context(attention, 2, 5)
    rotation = context.rotations["default"]
    latent = attention.latent_norm(attention.latent(x)[..., :RANK])
    shared_key = rotate_neighbours(attention.latent(x)[..., None, RANK:], rotation)
    q, up = (
        attention.q(x).unflatten(-1, (NUM_HEADS, -1)),
        attention.expand.weight.unflatten(0, (NUM_HEADS, -1)),
    )
    heads = []
    for head in range(NUM_HEADS):
        turned = rotate_neighbours(q[:, :, head : head + 1, CONTENT:], rotation)
        query = torch.cat([q[:, :, head : head + 1, :CONTENT], turned], dim=-1)
        key = torch.cat([(latent @ up[head, :CONTENT].T)[:, :, None], shared_key], dim=-1)
        value = (latent @ up[head, CONTENT:].T)[:, :, None]
        scale = (CONTENT + TURNED) ** -0.5
        heads.append(rows_attention_reference(query, key, value, is_causal=True, scale=scale))
    wanted = attention.out(torch.cat(heads, dim=2).flatten(-2))
    torch.testing.assert_close(attention(x, context), wanted, rtol=1e-4, atol=1e-5)


def test_a_token_is_kept_as_its_latent_and_one_rotated_key(attention: LatentAttention) -> None:
    x, cache = torch.randn(2, 3, HIDDEN_SIZE), DenseCache()
    context = rows_context(attention, 2, 3, caches=[cache])
    attention(x, context)
    assert cache.stored is not None
    assert cache.stored.k.shape == (2, 3, 1, RANK + TURNED)
    assert cache.stored.v.numel() == 0
    kept = attention.latent(x)
    torch.testing.assert_close(cache.stored.k[:, :, 0, :RANK], attention.latent_norm(kept[..., :RANK]))
    turned = rotate_neighbours(kept[..., None, RANK:], context.rotations["default"])
    torch.testing.assert_close(cache.stored.k[..., RANK:], turned)
    assert attention.cache_spec.bytes_per_token(4) == 4 * (RANK + TURNED)


def test_decoding_is_absorbed_and_whole_sequences_are_expanded(
    attention: LatentAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms: list[str] = []
    for name in ("absorbed", "expanded"):
        form = getattr(attention, name)
        monkeypatch.setattr(
            attention, name, lambda *args, name=name, form=form: (forms.append(name), form(*args))[1]
        )
    caches, x = [DenseCache()], torch.randn(2, 9, HIDDEN_SIZE)
    attention(x[:, :8], rows_context(attention, 2, 8, caches=caches))
    attention(x[:, 8:], rows_context(attention, 2, 1, caches=caches, num_cached=8))
    lengths = Context.packed([5, 4], specs=[attention.cache_spec])
    assert isinstance(lengths.caches[0], PackedLayout)
    attention(x[:1], in_context(lengths))
    pool = PagedCache(9, attention.cache_spec, dtype=torch.float32, device="cpu")
    for start, stop in [(0, 8), (8, 9)]:
        places, offsets = torch.arange(start, stop), torch.tensor([0, stop - start])
        step = PagedStep(
            write=places, read=torch.arange(stop), query_offsets=offsets, key_offsets=torch.tensor([0, stop])
        )
        lengths = torch.full((1, stop - start), stop)
        attention(
            x[:1, start:stop],
            in_context(Context(positions=places[None], sequence_lengths=lengths, caches=[pool.at(step)])),
        )
    assert forms == ["expanded", "absorbed", "expanded", "expanded", "absorbed"]


@pytest.mark.parametrize(
    ("num_queries", "num_keys", "is_cheaper"),
    [(1, 4096, True), (160, 4096, True), (170, 4096, False), (1, 2, True), (512, 512, False)],
)
def test_with_the_widths_of_deepseek_v3_absorbing_pays_for_up_to_some_170_queries(
    num_queries: int, num_keys: int, is_cheaper: bool
) -> None:
    with torch.device("meta"):
        layer = latent_attention(content_dim=128, rope_dim=64, value_dim=128, kv_rank=512)
        k = torch.empty(3, num_keys, 1, 576)
        x = torch.empty(3, num_queries, HIDDEN_SIZE)
    assert layer.is_absorbing_cheaper(x, Rows(k, k[..., :0])) is is_cheaper


@pytest.mark.parametrize("change", [prepack, partial(quantize, precision="int4")], ids=["packed", "int4"])
def test_only_the_matrix_that_is_absorbed_stays_plain(
    change: Callable[[Model], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "is_worth_packing", lambda: True)
    config = replace(find_preset("deepseek-v3"), num_layers=1, num_dense_layers=1, vocab_size=64)
    shrunk = {"hidden_size": 24, "intermediate_size": 20, "num_heads": 4, "num_kv_heads": 4}
    model = change(build_model(replace(config, **shrunk)).bfloat16())
    layer = model.blocks[0].attention.mixer
    assert isinstance(layer.expand, Linear)
    assert all(
        isinstance(m, PackedLinear) for m in (layer.q.compress, layer.q.expand, layer.latent, layer.out)
    )
