"""Packed and quantised models of every family: the same answers as far as rounding goes, and the same file again."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from malmoi.core.errors import CheckpointError, ConfigError, RequestError
from malmoi.models import build_model, count_parameters, load_config, load_model, save_model
from malmoi.models.bert import BertConfig
from malmoi.models.llama import sized
from malmoi.nn import packed
from malmoi.nn.attend import AttentionRule
from malmoi.nn.attention import Attention
from malmoi.nn.kernels import native
from malmoi.nn.linear import Linear, SharedInput
from malmoi.nn.packed import PackedEmbedding, PackedLinear, PackedWeight, PanelWeight, prepack
from malmoi.nn.quantized import Quantization, QuantizedWeight, quantization_of, quantize
from malmoi.nn.stack import Decoder, Model
from malmoi.testing.models import tiny_llama
from malmoi.weights.files import read_tensors, write_tensors

Inputs = dict[str, Tensor]
Call = Callable[[Model, Inputs], Tensor]


@pytest.fixture
def model(case: Any, randomise: Callable[[Any], Any]) -> Model:
    built: Model = randomise(build_model(case.config)).eval()
    return built


@pytest.fixture
def inputs(case: Any, model: Model, inputs_of: Callable[[Any, Model], Inputs]) -> Inputs:
    return inputs_of(case, model)


@pytest.fixture(autouse=True)
def always_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this processor likes best."""
    monkeypatch.setattr(packed, "is_worth_packing", lambda: True)


def with_plain_weights(model: Model) -> Model:
    """The same numbers in plain matrices: what a quantised model computes with."""
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, PackedLinear):
                linear = Linear(child.in_features, child.out_features, bias=child.bias is not None)
                linear.weight = nn.Parameter(child.packed.plain())
                linear.bias = child.bias
                setattr(owner, name, linear)
            elif isinstance(child, PackedEmbedding):
                setattr(owner, name, nn.Embedding.from_pretrained(child.packed.plain()))
    return model


# --- every family ------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_a_packed_model_answers_as_before_and_saves_as_before(
    case: Any, model: Model, inputs: Inputs, call: Call, tmp_path: Path
) -> None:
    model = model.to(torch.bfloat16)
    save_model(model, tmp_path / "before")
    before, num_parameters = call(model, inputs).float(), count_parameters(model)
    packed_model = prepack(model)
    assert count_parameters(packed_model) == num_parameters
    after = call(packed_model, inputs).float()
    assert (after - before).norm() / before.norm() < case.bf16_tolerance
    save_model(packed_model, tmp_path / "after")
    assert (tmp_path / "after" / "model.safetensors").read_bytes() == (
        tmp_path / "before" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.inference_mode()
def test_a_quantised_model_computes_with_what_its_codes_stand_for(
    case: Any, model: Model, inputs: Inputs, call: Call, precision: Any
) -> None:
    quantized = quantize(model, precision)
    ours = call(quantized, inputs)
    plain = call(with_plain_weights(copy.deepcopy(quantized)), inputs)
    # What is left is the rounding of activations; near a tie it sends a token to another expert.
    assert ours.isfinite().all()
    assert (ours - plain).norm() / plain.norm() < (0.5 if case.is_routed else 0.15)
    with native.using(native.TWINS):  # a difference in the last bit may round an activation to the next code
        assert (call(quantized, inputs) - ours).norm() / ours.norm() < (0.5 if case.is_routed else 0.02)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.inference_mode()
def test_a_quantised_model_is_saved_and_loaded_bit_for_bit(
    case: Any, model: Model, inputs: Inputs, call: Call, precision: Any, tmp_path: Path
) -> None:
    quantized = quantize(model, precision, group_size=64)
    save_model(quantized, tmp_path)
    loaded = load_model(tmp_path)
    assert quantization_of(loaded) == quantization_of(quantized)
    assert load_config(tmp_path) == model.config
    before, after = quantized.state_dict(), loaded.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    # Not the same bits in what is not packed: the plain products of PyTorch depend on where a matrix begins in memory.
    assert (call(loaded, inputs) - call(quantized, inputs)).norm() / call(quantized, inputs).norm() < 0.02


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
@torch.inference_mode()
def test_projections_of_one_x_are_the_same_bits_together_and_apart(
    case: Any, model: Model, inputs: Inputs, call: Call, precision: str
) -> None:
    if native.level() == native.TWINS:
        pytest.skip("PyTorch picks its product by the size of the matrix")
    model = packed_to(precision, model)
    together = call(model, inputs)
    for brick in bricks(model):
        brick.joined = None
    assert torch.equal(call(model, inputs), together)


# --- projections of one x ----------------------------------------------------------------------------------


def packed_to(precision: str, model: Model) -> Model:
    return prepack(model.bfloat16()) if precision == "bf16" else quantize(model, precision)


def bricks(model: nn.Module) -> list[SharedInput]:
    return [module for module in model.modules() if isinstance(module, SharedInput)]


BIASES: dict[str, dict[str, Any]] = {
    "no bias": {},
    "all have one": {"bias": True},
    "only q and v": {"bias": True, "k_bias": False},
}


def attention(**parts: Any) -> Decoder:
    """A model of one layer, of which only that layer matters."""
    model = llama()
    sizes = {"hidden_size": 64, "num_heads": 2, "num_kv_heads": 1, "head_dim": 64, **parts}
    model.blocks[0].attention.mixer = Attention(**sizes, rule=AttentionRule())
    for bias in (p for name, p in model.named_parameters() if name.endswith("bias")):
        nn.init.normal_(bias)
    return model


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("biases", BIASES)
@torch.inference_mode()
def test_packing_joins_projections_and_changes_neither_a_name_nor_a_bit(precision: str, biases: str) -> None:
    model = attention(**BIASES[biases])
    before = packed_to(precision, copy.deepcopy(model))
    for brick in bricks(before):
        brick.joined = None
    model = packed_to(precision, model)
    assert all(brick.joined is not None for brick in bricks(model))
    expected, state = before.state_dict(), model.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)
    for num_tokens in (1, 7):
        x = torch.randn(1, num_tokens, 64).to(model.dtype)
        for ours, apart in zip(bricks(model), bricks(before), strict=True):
            for together, alone in zip(ours.project(x), apart.project(x), strict=True):
                if native.level() == native.TWINS:
                    torch.testing.assert_close(together, alone, rtol=1e-2, atol=1e-2)
                else:
                    assert torch.equal(together, alone)


@torch.inference_mode()
def test_one_product_is_made_for_all_projections_of_one_x(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    product = PanelWeight.product
    monkeypatch.setattr(
        PanelWeight, "product", lambda self, *given: (sizes.append(self.out_size), product(self, *given))[1]
    )
    model = prepack(attention().bfloat16())
    model(torch.tensor([[5, 6, 7]]))
    width = model.blocks[0].ffn.mixer.up.out_features
    assert sizes[:4] == [(2 + 1 + 1) * 64, 64, 2 * width, 64]


@torch.inference_mode()
def test_projections_that_do_not_end_with_a_panel_stay_apart() -> None:
    model = prepack(attention(head_dim=24, rope=None).bfloat16())  # 48, 24 and 24 outputs
    assert bricks(model)[0].joined is None
    assert model(torch.tensor([[5, 6, 7]])).logits.isfinite().all()


@torch.inference_mode()
def test_a_module_in_the_place_of_a_projection_is_called() -> None:
    model = prepack(attention(bias=True).bfloat16())
    brick = bricks(model)[0]
    x = torch.randn(1, 3, 64).bfloat16()
    q, k, v = brick.project(x)
    brick.k = nn.Sequential(brick.k, nn.Threshold(1e9, 3.0))
    ours = brick.project(x)
    assert torch.equal(ours[1], torch.full_like(k, 3.0))
    for together, alone in zip((ours[0], ours[2]), (q, v), strict=True):
        torch.testing.assert_close(together, alone)


def test_a_gradient_goes_through_each_projection_on_its_own() -> None:
    model = quantize(attention(bias=True), "int8")
    model(torch.tensor([[5, 6, 7]])).logits.sum().backward()
    for name in bricks(model)[0].projections:
        bias = bricks(model)[0].get_submodule(name).bias
        assert bias.grad.isfinite().all()


@torch.inference_mode()
def test_joined_projections_follow_their_parts() -> None:
    model, x = quantize(attention(bias=True), "int8"), torch.randn(1, 3, 64)
    expected = bricks(model)[0].project(x)
    for moved in (copy.deepcopy(model), copy.deepcopy(model).to(torch.float32)):
        brick = bricks(moved)[0]
        for name in brick.projections:  # what is changed in place is changed in the whole
            brick.get_submodule(name).bias.add_(1.0)
        for ours, before in zip(brick.project(x), expected, strict=True):
            torch.testing.assert_close(ours, before + 1.0)
    assert bricks(model.to(torch.bfloat16))[0].project(x.bfloat16())[0].dtype == torch.bfloat16
    assert bricks(model.to("meta"))[0].joined is not None


# --- one Llama ---------------------------------------------------------------------------------------------


def llama() -> Decoder:
    model = build_model(sized(2, vocab_size=70, max_positions=64))
    assert isinstance(model, Decoder)
    return model.eval()


@torch.no_grad()
def test_a_tied_head_and_its_table_are_one_packed_weight() -> None:
    for change in (lambda m: prepack(m.bfloat16()), lambda m: quantize(m, "int4")):
        model = llama()
        table = model.embedding.tokens.weight.clone()
        change(model)
        assert model.head.packed is model.embedding.tokens.packed
        error = (model.embedding.tokens(torch.arange(70)).float() - table).norm() / table.norm()
        assert error < 0.01
        with pytest.raises(RequestError, match="the id 70 is not in the vocabulary of 70 tokens"):
            model(torch.tensor([[3, 70]]))


# What is asked for the head -> whether it is tied -> precisions of table and head.
HEADS = {
    "auto": {True: ("int8", "int8"), False: ("int4", "int4")},
    "int8": {True: ("int8", "int8"), False: ("int4", "int8")},
    "int4": {True: ("int4", "int4"), False: ("int4", "int4")},
}


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("head", HEADS)
def test_heads_have_a_precision_of_their_own(head: str, is_tied: bool) -> None:
    model = quantize(tiny_llama(is_tied=is_tied), "int4", head=head)
    assert (model.embedding.tokens.packed.precision, model.head.packed.precision) == HEADS[head][is_tied]
    found = [m.precision for m in model.blocks.modules() if isinstance(m, QuantizedWeight)]
    assert found == ["int4"] * 2 * 7


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.no_grad()
def test_an_untied_table_is_rounded_and_read_by_rows(precision: str) -> None:
    model = tiny_llama(is_tied=False)
    table = model.embedding.tokens.weight.clone()
    tokens = quantize(model, precision).embedding.tokens
    assert tokens.packed is not model.head.packed
    ids = torch.tensor([[0, 258, 31, 32, 0]])
    assert torch.equal(tokens(ids), tokens.packed.plain()[ids])
    assert (tokens.packed.plain() - table).norm() / table.norm() < (0.01 if precision == "int8" else 0.1)
    assert [name for name, p in model.named_parameters() if p.ndim > 1] == []
    with pytest.raises(RequestError, match="the id 259 is not in the vocabulary of 259 tokens"):
        model(torch.tensor([[259]]))


@torch.no_grad()
def test_a_table_that_is_tied_to_a_head_behind_an_encoder_is_one_packed_weight() -> None:
    shape = {"vocab_size": 70, "hidden_size": 32, "intermediate_size": 64, "num_layers": 1, "num_heads": 2}
    model = quantize(build_model(BertConfig(**shape, max_positions=32, head="masked-token")), "int4")
    assert model.head.decoder.packed is model.embedding.tokens.packed
    assert model.head.decoder.packed.precision == "int8"


def test_a_directory_of_before_tables_were_rounded_is_loaded_and_saved_as_it_is(tmp_path: Path) -> None:
    model, tokens = tiny_llama(is_tied=False), torch.tensor([[5, 6, 7]])
    save_model(quantize(model, "int4", head="int8", rounds_tables=False), tmp_path / "before")
    file = tmp_path / "before" / "config.json"
    config = json.loads(file.read_text("utf-8"))
    del config["quantization_config"]["rounds_tables"]  # which the first ones do not say
    file.write_text(json.dumps(config), "utf-8")
    loaded = load_model(tmp_path / "before")
    assert isinstance(loaded.embedding.tokens, nn.Embedding)
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    save_model(loaded, tmp_path / "after")
    assert (tmp_path / "after" / "model.safetensors").read_bytes() == (
        tmp_path / "before" / "model.safetensors"
    ).read_bytes()
    assert quantization_of(load_model(tmp_path / "after")) == quantization_of(loaded)


def test_a_packed_model_moves_to_another_device_and_never_to_another_precision() -> None:
    model = quantize(llama(), "int8").to(torch.bfloat16)
    weight = next(m for m in model.modules() if isinstance(m, PackedWeight))
    assert (weight.codes.dtype, weight.scales.dtype) == (torch.uint8, torch.bfloat16)
    assert model.dtype == model(torch.tensor([[5]])).logits.dtype == torch.bfloat16
    assert weight.to("meta").codes.is_meta
    assert weight.to(torch.float32).codes.is_meta, "another precision is no other device"


def test_a_packed_product_takes_rows_of_its_own_size_alone() -> None:
    for model in (prepack(llama().bfloat16()), quantize(llama(), "int8")):
        for size in (63, 65):
            with pytest.raises(RuntimeError, match=f"x has {size} numbers a row, and the weight takes 64"):
                model.head(torch.ones(1, size, dtype=model.dtype))


@torch.inference_mode()
def test_loading_lays_bf16_out_and_gives_the_memory_under_its_file_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "malmoi.models.checkpoint.let_go", lambda weight: given_back.append(tuple(weight.shape))
    )
    model, tokens = llama().bfloat16(), torch.tensor([[5, 6, 7]])
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, is_prepacked=True)
    assert sorted(given_back) == sorted(
        tuple(m.weight.shape) for m in model.modules() if isinstance(m, Linear)
    )
    assert torch.equal(loaded(tokens).logits, prepack(model)(tokens).logits)
    with_plain = load_model(tmp_path, dtype="fp32", is_prepacked=True)
    assert not any(isinstance(module, PackedWeight) for module in with_plain.modules())


def test_a_gradient_flows_through_a_quantised_model() -> None:
    model = quantize(llama(), "int8")
    model(torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert model.blocks[0].attention.norm.weight.grad.count_nonzero()


def test_loading_rounds_as_rounding_does(tmp_path: Path) -> None:
    model = llama()
    save_model(model, tmp_path)
    tokens = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        rounded = quantize(model, "int4")(tokens).logits
        assert torch.equal(load_model(tmp_path, dtype="int4")(tokens).logits, rounded)
    assert load_model(tmp_path, dtype="bf16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int3"}, "precision='int3'"),
        ({"head": "bf16"}, "head='bf16'"),
        ({"group_size": 48}, "32, 64 or 128"),
    ],
    ids=str,
)
def test_what_no_kernel_reads_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Quantization(**({"precision": "int8"} | changes))


def test_what_cannot_be_rounded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="packed already"):
        quantize(quantize(llama(), "int8"), "int4")
    model = llama()
    model.blocks[1].ffn.mixer.up.weight.data[3, 4] = torch.nan
    with pytest.raises(ConfigError, match="not finite"):
        quantize(model, "int8")
    save_model(llama(), tmp_path)
    with pytest.raises(ConfigError, match="dtype='int3' is not known"):
        load_model(tmp_path, dtype="int3")


def test_a_quantised_directory_has_one_precision(tmp_path: Path) -> None:
    model = quantize(llama(), "int8")
    with pytest.raises(ConfigError, match="quantised, so it cannot be saved as"):
        save_model(model, tmp_path, dtype=torch.bfloat16)
    save_model(model, tmp_path)
    assert quantization_of(load_model(tmp_path, dtype="int8")) == quantization_of(model)
    for dtype in ("int4", torch.bfloat16):
        with pytest.raises(ConfigError, match="is quantised to int8"):
            load_model(tmp_path, dtype=dtype)


def test_a_quantised_model_that_could_not_be_loaded_again_is_not_saved(tmp_path: Path) -> None:
    model = quantize(llama().bfloat16(), "int8")
    model.blocks[1].ffn.norm.float()
    for odd in (model, quantize(llama().double(), "int8")):
        with pytest.raises(ConfigError, match="saved in one precision, of bfloat16, float32, float16"):
            save_model(odd, tmp_path)
    save_model(model.to(torch.bfloat16), tmp_path)
    assert load_model(tmp_path).dtype == torch.bfloat16


def test_a_damaged_quantised_directory_is_refused(tmp_path: Path) -> None:
    save_model(quantize(llama(), "int8"), tmp_path)
    tensors = dict(read_tensors(tmp_path))
    name = "blocks.0.ffn.mixer.up.packed.codes"
    write_tensors(tmp_path, {key: tensor for key, tensor in tensors.items() if key != name})
    with pytest.raises(CheckpointError, match=rf"{name}' is missing"):
        load_model(tmp_path)
    write_tensors(tmp_path, {**tensors, name: tensors[name][:1].clone()})
    with pytest.raises(CheckpointError, match=rf"{name}' is \[1, .*asks for"):
        load_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["quantization_config"]["quant_method"] = "gptq"
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ConfigError, match="the key 'quantization_config'"):
        load_model(tmp_path)
