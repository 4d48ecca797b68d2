"""The bricks of one job each: norms, projections, feed-forward, embedding, attention, context, cache sizes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from malmoi.core.errors import ConfigError, RequestError
from malmoi.models import initialise, llama
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention, head_width
from malmoi.nn.block import Block, PostNorm, PreNorm, Reordered, Sandwich
from malmoi.nn.cache import DenseCache, KeyValueSpec, PagedCache
from malmoi.nn.context import Context
from malmoi.nn.embedding import Embedding, LearnedPositions
from malmoi.nn.linear import Linear
from malmoi.nn.mlp import MLP, GatedMLP, gelu_tanh
from malmoi.nn.norm import LayerNorm, RMSNorm
from malmoi.nn.rope import Rope, RopeConfig
from malmoi.nn.stack import Decoder

SPEC = KeyValueSpec(num_kv_heads=1, head_dim=2)


def attention(num_heads: int = 4, num_kv_heads: int = 2) -> Attention:
    return Attention(
        hidden_size=16,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=6,
        rule=AttentionRule(),
        bias=True,
        out_bias=True,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_norms_equal_torch_in_fp32_whatever_the_precisions(weights: torch.dtype, dtype: torch.dtype) -> None:
    x = (3 + 5 * torch.randn(2, 3, 8)).to(dtype)
    layer, rms = LayerNorm(8, eps=1e-5), RMSNorm(8, eps=1e-5)
    for parameter in [*layer.parameters(), *rms.parameters()]:
        nn.init.normal_(parameter)
    layer, rms = layer.to(weights), rms.to(weights)
    narrower = torch.bfloat16 if torch.bfloat16 in (weights, dtype) else torch.float32
    wanted = F.layer_norm(x.float(), (8,), layer.weight.float(), layer.bias.float(), 1e-5)
    assert torch.equal(layer(x), wanted.to(narrower))
    unit = F.rms_norm(x.float(), (8,), None, 1e-5).to(narrower)
    torch.testing.assert_close(rms(x), unit * rms.weight.to(narrower))


def test_a_stream_in_fp32_brings_logits_in_bf16_nearer_to_those_in_fp32() -> None:
    model = initialise(llama.build(llama.sized(12, vocab_size=61, max_positions=64)), seed=0).bfloat16()
    tokens = torch.randint(61, (4, 32))
    exact, narrow = copy.deepcopy(model).float()(tokens).logits, model(tokens).logits
    with torch.no_grad():
        wide = model(tokens).logits
    assert (wide.float() - exact).std() < 0.8 * (narrow.float() - exact).std()


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_stream_that_pytorchs_norms_read_stays_in_bf16(norm: type[nn.Module]) -> None:
    """They do not bring fp32 to the precision of their weights, or not at all."""
    parts = llama.build(llama.sized(2, vocab_size=61, max_positions=64))
    block = Block(ffn=PreNorm(norm(64), GatedMLP(64, 64, bias=False)))
    model = Decoder(
        embedding=parts.embedding,
        blocks=[block],
        head=parts.head,
        norm=norm(64),
        vocab_size=61,
        max_positions=64,
    ).bfloat16()
    with torch.no_grad():
        streams = [*model.states(torch.tensor([[5, 6, 7]]), Context.rows(1, 3, specs=[]))]
        logits = model(torch.tensor([[5, 6, 7]])).logits
    assert {x.dtype for x in [*streams, logits]} == {torch.bfloat16}


def test_linear_computes_in_the_precision_of_its_input_and_returns_gradients_in_its_own() -> None:
    linear, x = Linear(8, 4), torch.randn(2, 3, 8, dtype=torch.bfloat16)
    out = linear(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, F.linear(x, linear.weight.bfloat16(), linear.bias.bfloat16()))
    out.sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32


def test_feed_forward_networks_are_their_formulas() -> None:
    x = torch.randn(1, 3, 8)
    context = Context.packed([3], specs=[])
    mlp, gated = MLP(8, 12, activation=gelu_tanh, bias=True), GatedMLP(8, 12)
    assert torch.equal(mlp(x, context), mlp.down(F.gelu(mlp.up(x), approximate="tanh")))
    assert torch.equal(gated(x, context), gated.down(F.silu(gated.gate(x)) * gated.up(x)))


def test_a_block_is_the_residual_sum_of_its_sublayers_in_order() -> None:
    norm, first, second = RMSNorm(8, eps=1e-5), GatedMLP(8, 4), GatedMLP(8, 4)
    x, context = torch.randn(1, 3, 8), Context.packed([3], specs=[])
    out = Block(one=PreNorm(norm, first), two=PreNorm(norm, second))(x, context)
    middle = x + first(norm(x), context)
    assert torch.equal(out, middle + second(norm(middle), context))


def test_where_a_sublayer_normalises_is_what_its_name_says() -> None:
    class Doubled(nn.Module):
        def forward(self, x: torch.Tensor, context: Context) -> torch.Tensor:
            return 2 * x

    x, context = torch.randn(1, 3, 8), Context.packed([3], specs=[])
    first, second = RMSNorm(8, eps=0.0), LayerNorm(8, eps=0.0)
    assert torch.equal(PreNorm(first, Doubled())(x, context), x + 2 * first(x))
    assert torch.equal(PostNorm(Doubled(), first)(x, context), first(x + 2 * x))
    assert torch.equal(Reordered(Doubled(), first)(x, context), x + first(2 * x))
    assert torch.equal(Sandwich(first, Doubled(), second)(x, context), x + second(2 * first(x)))


def test_learned_positions_restart_in_each_packed_sequence() -> None:
    embedding = Embedding(10, 8, positions=LearnedPositions(4, 8))
    packed = embedding(torch.tensor([[5, 6, 7, 5, 6]]), Context.packed([3, 2], specs=[]))
    assert torch.equal(packed[0, :2], packed[0, 3:])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[3, 10]], "the id 10 is not in the vocabulary of 10 tokens"),
        ([[-1, 3]], "the id -1 is not in"),
        ([[1, 2, 3, 4, 5]], "the sequence has 5 tokens, but this model has learned only 4 positions"),
    ],
)
def test_embedding_says_what_it_has_no_row_for(tokens: list[list[int]], message: str) -> None:
    ids = torch.tensor(tokens)
    with pytest.raises(RequestError, match=message):
        Embedding(10, 8, positions=LearnedPositions(4, 8))(ids, Context.dense(ids, specs=[]))


def test_attention_projects_to_the_heads_of_its_spec() -> None:
    x, context = torch.randn(1, 5, 16), Context.packed([5], specs=[SPEC])
    brick = attention()
    assert brick(x, context.rotated(nn.ModuleDict({"default": Rope(RopeConfig(), 6)}))).shape == x.shape
    assert brick.cache_spec == KeyValueSpec(num_kv_heads=2, head_dim=6)
    assert brick.k.out_features == brick.v.out_features == 12


def test_heads_that_cannot_be_shared_evenly_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"num_heads=12 is not divisible by num_kv_heads=5.*\(1, 2, 3, 4, 6, 12\)"
    ):
        attention(num_heads=12, num_kv_heads=5)
    with pytest.raises(ConfigError, match="hidden_size=100 is not divisible by num_heads=12.*such as 108"):
        head_width(100, 12)
    with pytest.raises(ConfigError, match=r"num_heads=4 is not divisible by num_kv_heads=0.*\(1, 2, 4\)"):
        attention(num_heads=4, num_kv_heads=0)


def test_a_rule_that_nobody_can_obey_is_refused() -> None:
    with pytest.raises(ConfigError, match="window=0: a query sees itself at least"):
        AttentionRule(window=0)
    with pytest.raises(ConfigError, match=r"soft_cap=0.0 is not above 0"):
        AttentionRule(soft_cap=0.0)


def test_a_cache_spec_counts_what_a_pool_takes() -> None:
    spec = KeyValueSpec(num_kv_heads=3, head_dim=5, value_dim=4)
    pool = PagedCache(10, spec, dtype=torch.bfloat16, device="cpu")
    assert 10 * spec.bytes_per_token(2) == pool.k.nbytes + pool.v.nbytes


def test_packed_positions_restart_and_lengths_are_those_of_the_sequence() -> None:
    context = Context.packed([3, 1, 2], specs=[SPEC, SPEC])
    assert context.positions.tolist() == [[0, 1, 2, 0, 0, 1]]
    assert context.sequence_lengths.tolist() == [[3, 3, 3, 1, 2, 2]]
    assert len(context.caches) == 2


def test_a_step_without_tokens_is_refused() -> None:
    with pytest.raises(RequestError, match="nothing to compute: 2 sequences without a token"):
        Context.packed([0, 0], specs=[])
    assert Context.packed([0, 2], specs=[SPEC]).positions.tolist() == [[0, 1]]


def test_packed_sources_are_as_many_as_the_sequences_and_as_long_as_is_said() -> None:
    source = torch.zeros(1, 5, 8)
    with pytest.raises(AssertionError, match="how long each source is"):
        Context.packed([3, 1], specs=[], source=source)
    with pytest.raises(AssertionError, match="how long each source is"):
        Context.packed([3, 1], specs=[], source_lengths=[4, 1])
    with pytest.raises(AssertionError, match="every sequence has a source"):
        Context.packed([3, 1], specs=[], source=source, source_lengths=[5])
    with pytest.raises(AssertionError, match="end to end"):
        Context.packed([3, 1], specs=[], source=source, source_lengths=[4, 2])


def test_a_dense_context_counts_what_is_cached() -> None:
    tokens = torch.zeros(2, 3, dtype=torch.long)
    context = Context.dense(tokens, specs=[SPEC], caches=[DenseCache()], num_cached=4)
    assert context.positions.tolist() == [[4, 5, 6]] * 2
    assert context.sequence_lengths.tolist() == [[7, 7, 7]] * 2


def test_cached_positions_without_a_cache_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="no cache that holds them"):
        Context.dense(torch.zeros(1, 1, dtype=torch.long), specs=[SPEC], num_cached=4)
