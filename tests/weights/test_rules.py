"""Laws of the weight rules: what is imported is exported again bit for bit; no tensor is lost in silence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.core.errors import CheckpointError
from malmoi.weights.patterns import fill, match
from malmoi.weights.rules import Rename, Reshape, Rule, Rules, Split, Transpose

C_ATTN = "h.{}.attn.c_attn.weight"
WIDTH = 4
GPT2 = Rules(
    [
        Rename("wte.weight", "embedding.weight"),
        Rename("h.{}.ln_1.{}", "blocks.{}.norm.{}"),
        Transpose(C_ATTN)
        >> Split(C_ATTN, [f"blocks.{{}}.{n}.weight" for n in "qkv"], dim=0, sizes=[WIDTH, 2, 2]),
        Split("h.{}.attn.c_attn.bias", [f"blocks.{{}}.{n}.bias" for n in "qkv"], dim=0, sizes=[WIDTH, 2, 2]),
    ]
)
EVERY_KIND = Rules(
    [
        *GPT2.rules,
        ~Split("blocks.{}.gate_up", ["l.{}.gate", "l.{}.up"], dim=0, sizes=[3, 5]),
        ~Transpose("b.{}", "a.{}"),
        Reshape("conv.{}", "blocks.{}.patches", theirs_shape=[2, 3, 4], ours_shape=[2, 12]),
        *Rules([Transpose("a.{}")]).under("inner.", "decoder.").rules,
    ]
)


def tensor_of(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random bits: NaNs with payloads and negative zeros must survive too."""
    size = torch.Size(shape).numel() * dtype.itemsize
    return torch.randint(0, 256, (size,), dtype=torch.uint8).view(dtype).reshape(shape)


def checkpoint(layers: int, dtype: torch.dtype) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (7, WIDTH)}
    for layer in range(layers):
        shapes |= {
            f"h.{layer}.ln_1.weight": (WIDTH,),
            f"h.{layer}.ln_1.bias": (WIDTH,),
            f"h.{layer}.attn.c_attn.weight": (WIDTH, WIDTH + 4),
            f"h.{layer}.attn.c_attn.bias": (WIDTH + 4,),
            f"l.{layer}.gate": (3, 2),
            f"l.{layer}.up": (5, 2),
            f"a.{layer}": (3, 2),
            f"conv.{layer}": (2, 3, 4),
            f"inner.a.{layer}": (3, 2),
        }
    return {name: tensor_of(*shape, dtype=dtype) for name, shape in shapes.items()}


def bits(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, list[int], bytes]]:
    return {
        name: (t.dtype, list(t.shape), t.contiguous().view(torch.uint8).numpy().tobytes())
        for name, t in tensors.items()
    }


@settings(max_examples=30)
@given(
    layers=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8]),
    data=st.data(),
)
def test_export_undoes_import_bit_for_bit_in_any_order(
    layers: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    theirs = checkpoint(layers, dtype)
    shuffled = {name: theirs[name] for name in data.draw(st.permutations(sorted(theirs)))}
    ours = EVERY_KIND.import_(shuffled)
    assert bits(EVERY_KIND.export(ours)) == bits(theirs)
    assert bits(EVERY_KIND.import_(EVERY_KIND.export(ours))) == bits(ours)


def test_the_queries_keys_and_values_of_gpt2_are_columns_of_the_fused_matrix() -> None:
    fused = torch.randn(WIDTH, WIDTH + 4)
    ours = GPT2.import_({"h.3.attn.c_attn.weight": fused})
    assert list(ours) == ["blocks.3.q.weight", "blocks.3.k.weight", "blocks.3.v.weight"]
    assert torch.equal(ours["blocks.3.k.weight"], fused[:, WIDTH : WIDTH + 2].T)


@pytest.mark.parametrize("rule", [*EVERY_KIND.rules])
def test_the_inverse_of_the_inverse_is_the_rule(rule: Rule) -> None:
    assert ~~rule == Rule(rule.theirs, rule.ours, rule.import_, rule.export)


def test_renaming_and_splitting_copy_nothing() -> None:
    fused = torch.randn(WIDTH, WIDTH + 4)
    ours = GPT2.import_({"h.0.attn.c_attn.weight": fused, "wte.weight": fused})
    assert {t.untyped_storage().data_ptr() for t in ours.values()} == {fused.untyped_storage().data_ptr()}


segments = st.text(alphabet="abz_09{}*", min_size=1)


@given(st.lists(segments, min_size=2, max_size=2))
def test_a_name_made_from_a_pattern_is_read_back_as_what_it_was_made_of(parts: list[str]) -> None:
    pattern = "model.layers.{}.mlp.{}_proj.weight"
    assert match(pattern, fill(pattern, parts)) == tuple(parts)


@pytest.mark.parametrize(
    "name", ["h.1.2.ln_1.weight", "xh.1.ln_1.weight", "h..ln_1.weight", "h.1.ln_1.weight\n"]
)
def test_a_pattern_reads_whole_names_segment_by_segment(name: str) -> None:
    assert match("h.{}.ln_1.weight", name) is None


def refusal(rules: Rules, tensors: dict[str, Tensor]) -> str:
    with pytest.raises(CheckpointError) as caught:
        rules.import_(tensors)
    return str(caught.value)


def test_a_tensor_that_no_rule_reads_is_named() -> None:
    said = refusal(GPT2, {"wte.weight": torch.ones(1), "wpe.weight": torch.ones(1), "x": torch.ones(1)})
    assert said.startswith("no rule reads the tensor 'wpe.weight', nor 1 more.")


def test_a_tensor_that_two_rules_read_is_named_with_both() -> None:
    rules = Rules([Rename("h.{}.weight", "a.{}"), Rename("{}.0.weight", "b.{}")])
    assert "reads the tensor 'h.0.weight': h.{}.weight and {}.0.weight" in refusal(
        rules, {"h.0.weight": torch.ones(1)}
    )


def test_two_tensors_that_become_one_are_refused() -> None:
    rules = Rules([Rename("a", "c"), Rename("b", "c")])
    assert "both become 'c'" in refusal(rules, {"a": torch.ones(1), "b": torch.ones(1)})


def test_every_missing_partner_is_named() -> None:
    said = refusal(EVERY_KIND, {"l.0.gate": torch.ones(3, 2)})
    assert said.startswith("missing 'l.0.up', without which 'l.0.gate'")
    with pytest.raises(CheckpointError, match=r"missing 'blocks.0.k.weight', 'blocks.0.v.weight'"):
        GPT2.export({"blocks.0.q.weight": torch.ones(4, 4)})


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (
            {"h.0.attn.c_attn.weight": torch.ones(4, 9)},
            "h.0.attn.c_attn.weight [4, 9] into blocks.{}.q.weight",
        ),
        ({"h.0.attn.c_attn.weight": torch.ones(4)}, "h.0.attn.c_attn.weight [4] into"),
        (
            {"l.0.gate": torch.ones(3, 2), "l.0.up": torch.ones(4, 2)},
            "along dimension 0 are [3, 4], not [3, 5]",
        ),
        ({"l.0.gate": torch.ones(3, 2), "l.0.up": torch.ones(5, 3)}, "l.0.gate [3, 2], l.0.up [5, 3]"),
        (
            {"l.0.gate": torch.ones(3), "l.0.up": torch.ones(5).half()},
            "several dtypes: torch.float16, torch.float32",
        ),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_by_name_and_shape(
    tensors: dict[str, Tensor], said: str
) -> None:
    assert said in refusal(EVERY_KIND, tensors)


def test_rules_that_cannot_be_inverted_or_composed_are_bugs() -> None:
    with pytest.raises(AssertionError, match="same number"):
        Rename("h.{}.w", "w")
    with pytest.raises(AssertionError, match="takes"):
        Rename("a", "b") >> Rename("c", "d")
