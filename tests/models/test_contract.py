"""What every model obeys, of whatever family and kind: one file, run over each tiny configuration of `families/`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from malmoi.core.config import from_mapping, to_mapping
from malmoi.core.errors import ConfigError, RequestError
from malmoi.models import build_model, count_parameters, family_names, initialise, load_model, save_model
from malmoi.models.registry import family_of, find_family
from malmoi.nn.stack import Model, Stack

Inputs = dict[str, Tensor]
Call = Callable[[Model, Inputs], Tensor]


@pytest.fixture
def model(case: Any, randomise: Callable[[Any], Any]) -> Model:
    built: Model = randomise(build_model(case.config)).eval()
    return built


@pytest.fixture
def inputs(case: Any, model: Model, inputs_of: Callable[[Any, Model], Inputs]) -> Inputs:
    return inputs_of(case, model)


@torch.no_grad()
def output(call: Call, model: Model, inputs: Inputs) -> Tensor:
    return call(model, inputs)


def test_every_family_is_under_contract(all_cases: list[Any]) -> None:
    assert {family_of(case.config).model_type for case in all_cases} == set(family_names())


def test_the_output_is_finite_and_in_the_precision_of_the_weights(
    model: Model, inputs: Inputs, call: Call
) -> None:
    out = output(call, model, inputs)
    assert out.dtype == model.dtype == torch.float32
    assert len(out) == len(next(iter(inputs.values())))
    assert out.isfinite().all()


def test_the_same_forward_gives_the_same_bits(model: Model, inputs: Inputs, call: Call) -> None:
    assert torch.equal(output(call, model, inputs), output(call, model, inputs))


def test_nothing_to_compute_is_refused(case: Any, model: Model, inputs: Inputs, call: Call) -> None:
    """A batch without rows, a row without tokens, and rows whose tokens are all padding."""
    with pytest.raises(RequestError, match="nothing to compute: 0 rows of"):
        call(model, {name: tensor[:0] for name, tensor in inputs.items()})
    if case.inputs is None:
        with pytest.raises(RequestError, match="nothing to compute: 2 rows of 0 tokens"):
            call(model, {name: tensor[:, :0] for name, tensor in inputs.items()})
        with pytest.raises(RequestError, match="row 0 of the mask has no real token"):
            model(**inputs, mask=torch.zeros_like(inputs["tokens"], dtype=torch.bool))


def test_gradients_are_finite_and_reach_every_parameter(
    case: Any, model: Model, inputs: Inputs, call: Call
) -> None:
    call(model, inputs).log_softmax(-1)[..., 0].sum().backward()
    for name, parameter in model.named_parameters():
        if case.may_lack_gradient(name):
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero(), name


def test_one_batch_can_be_learned_by_heart(case: Any, inputs: Inputs, call: Call) -> None:
    model = initialise(build_model(case.config), seed=0, std=0.1)
    out = output(call, model, inputs)
    targets = torch.randint(out.shape[-1], out.shape[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    loss = torch.tensor(torch.inf)
    for _ in range(200):
        optimizer.zero_grad()
        out = call(model, inputs)
        loss = F.cross_entropy(out.flatten(0, -2), targets.flatten())
        # A pooled state lies between -1 and 1, which bounds its loss from below, but not who is the largest.
        if loss < 0.2 or torch.equal(out.argmax(-1), targets):
            return
        loss.backward()
        optimizer.step()
    raise AssertionError(f"after 200 steps the loss is still {loss.item():.2f}")


def test_bf16_weights_run_and_stay_near_fp32(
    case: Any, model: Model, inputs: Inputs, call: Call, assert_close: Callable[..., None]
) -> None:
    wanted = output(call, model, inputs)
    model.to(torch.bfloat16)
    out = output(call, model, inputs)
    assert model.dtype == out.dtype == torch.bfloat16
    assert_close(out, wanted, tolerance=case.bf16_tolerance)


def test_bf16_activations_reach_every_block_and_train_fp32_weights(
    case: Any, model: Model, inputs: Inputs, call: Call, assert_close: Callable[..., None]
) -> None:
    wanted, seen = output(call, model, inputs), []
    model.compute_dtype = torch.bfloat16
    assert model.compute_dtype == torch.bfloat16
    for stack in model.modules():
        for block in stack.blocks if isinstance(stack, Stack) else ():
            block.register_forward_hook(lambda block, args, x: seen.append(x.dtype))
    out = call(model, inputs)
    assert model.dtype == torch.float32
    assert out.dtype == torch.bfloat16
    assert set(seen) == {torch.bfloat16}
    assert_close(out, wanted, tolerance=case.bf16_tolerance)
    out.float().square().sum().backward()
    for name, parameter in model.named_parameters():
        if case.may_lack_gradient(name):
            continue
        if parameter.grad is None:
            assert ".experts." in name  # nobody chose it
            continue
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_loads_bit_for_bit(
    case: Any, model: Model, inputs: Inputs, call: Call, dtype: torch.dtype, tmp_path: Path
) -> None:
    model.to(dtype)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == case.config
    assert loaded.dtype == dtype
    assert not loaded.training
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for (
        parameter
    ) in loaded.parameters():  # mapped from the file it is aligned otherwise, and products round by that
        parameter.data = parameter.data.clone()
    assert torch.equal(output(call, loaded, inputs), output(call, model, inputs))
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]


def test_a_model_is_saved_and_loaded_in_the_precision_that_is_asked_for(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path, dtype=torch.bfloat16)
    assert load_model(tmp_path).dtype == torch.bfloat16
    assert load_model(tmp_path, dtype=torch.float32).dtype == torch.float32
    assert model.dtype == torch.float32


def test_a_loaded_model_keeps_its_ties(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    assert count_parameters(load_model(tmp_path)) == count_parameters(model)


def mapped_from(directory: Path) -> list[tuple[int, int]]:
    """Where in the memory of this process the checkpoint of a directory lies."""
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    ranges = [line.split()[0].split("-") for line in lines if line.endswith(f"{directory}/model.safetensors")]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's /proc")
def test_a_loaded_weight_is_the_file_itself(case: Any, model: Model, tmp_path: Path) -> None:
    """So loading takes no memory beside the weights, and none at all before they are used."""
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    places = mapped_from(tmp_path)
    for name, parameter in loaded.named_parameters():
        is_mapped = any(start <= parameter.data_ptr() < end for start, end in places)
        assert is_mapped or case.may_be_copied(name), name


def test_a_key_that_a_family_does_not_read_is_refused_by_name(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(config | {"attention_hops": 3}), "utf-8")
    with pytest.raises(ConfigError, match=r"the key 'attention_hops' \(3\) is not one"):
        load_model(tmp_path)


def test_a_model_without_memory_has_the_same_shapes(
    case: Any, model: Model, inputs: Inputs, call: Call
) -> None:
    with torch.device("meta"):
        empty = build_model(case.config)
    assert {n: p.shape for n, p in empty.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    assert all(p.device.type == "meta" for p in empty.parameters())


def test_initial_weights_depend_on_the_seed_alone(case: Any, inputs: Inputs, call: Call) -> None:
    torch.manual_seed(1)
    first = initialise(build_model(case.config), seed=5)
    second = build_model(case.config)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(torch.nan)
    initialise(second, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = initialise(build_model(case.config), seed=6)
    assert not torch.equal(output(call, first, inputs), output(call, other, inputs))


def test_a_configuration_survives_being_a_mapping(case: Any) -> None:
    assert from_mapping(type(case.config), to_mapping(case.config), where="test") == case.config


def test_a_page_is_found_by_each_of_its_names() -> None:
    for name in family_names():
        assert find_family(name).model_type == name


# The graph of one case a family, in parts that run beside each other; the code that PyTorch makes of a graph for one
# case, as it is not the family's doing.
NUM_PARTS = 4
COMPILED = [("aot_eager", part) for part in range(NUM_PARTS)] + [("inductor", 0)]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "part"), COMPILED)
def test_compiled_equals_eager(
    backend: str,
    part: int,
    all_cases: list[Any],
    inputs_of: Callable[[Any, Model], Inputs],
    randomise: Callable[[Any], Any],
    tmp_path: Path,
) -> None:
    last_of_each = {family_of(case.config).model_type: case for case in all_cases}
    assert last_of_each.keys() == set(family_names())
    cases = [*last_of_each.values()][part::NUM_PARTS] if backend == "aot_eager" else [last_of_each["llama"]]
    jobs = []
    for case in cases:
        model = randomise(build_model(case.config))
        save_model(model, tmp_path / case.name)
        torch.save(inputs_of(case, model), tmp_path / case.name / "inputs.pt")
        jobs += [tmp_path / case.name, "whole" if case.is_one_graph else "in parts"]
    # A process without the checks of annotations, which the compiler cannot trace.
    script = Path(__file__).parent / "compare_compiled.py"
    command = [sys.executable, "-W", "error", script, backend, *jobs]
    child = subprocess.run(command, check=False, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-2000:]
