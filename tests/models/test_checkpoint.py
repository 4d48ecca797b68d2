"""Loading and saving: what does not fit is named as the file names it, and memory is taken once."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from malmoi.core.errors import CheckpointError, ConfigError, HubError
from malmoi.models import build_model, load_model, save_model
from malmoi.models.gpt2 import GPT2Config
from malmoi.models.llama import build, sized
from malmoi.nn.stack import Decoder

Tensors = dict[str, Tensor]


@pytest.fixture(params=["llama", "llama, all options", "gpt2"])
def saved(request: pytest.FixtureRequest, all_cases: list[Any], randomise: Any, tmp_path: Path) -> Path:
    """The directory of a saved model."""
    [case] = [case for case in all_cases if case.name == request.param]
    save_model(randomise(build_model(case.config)), tmp_path)
    return tmp_path


def stored(directory: Path) -> Tensors:
    """The tensors of a checkpoint, free of their file."""
    return {name: tensor.clone() for name, tensor in load_file(directory / "model.safetensors").items()}


def change(directory: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = stored(directory)
    edit(tensors)
    save_file(tensors, directory / "model.safetensors")


def a_matrix(tensors: Tensors) -> str:
    """A tensor's name, of the middle of the network."""
    return next(name for name in sorted(tensors) if ".1." in name and tensors[name].ndim == 2)


def test_a_missing_tensor_is_named(saved: Path) -> None:
    name = a_matrix(stored(saved))
    change(saved, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"lacks the tensor '{name}'. The checkpoint is incomplete"):
        load_model(saved)


def test_all_missing_tensors_are_counted(saved: Path) -> None:
    total = len(stored(saved))
    change(saved, lambda tensors: [tensors.pop(name) for name in list(tensors)[1:]])
    with pytest.raises(CheckpointError, match=rf"\(and {total - 2} more\)"):
        load_model(saved)


@pytest.mark.parametrize(
    "name", ["score.weight", "model.layers.0.self_attn.q_norm.weight", "transformer.h.0.x"]
)
def test_an_extra_tensor_is_named(saved: Path, name: str) -> None:
    change(saved, lambda tensors: tensors.update({name: torch.ones(3)}))
    with pytest.raises(
        CheckpointError, match=f"has the tensor '{name}', which this configuration has no place"
    ):
        load_model(saved)


def test_a_misshaped_tensor_is_named_with_both_shapes(saved: Path) -> None:
    name = a_matrix(stored(saved))
    shape = stored(saved)[name].shape
    change(saved, lambda tensors: tensors.update({name: torch.ones(3, 5)}))
    message = (
        rf"the tensor '{name}' has the shape \[3, 5\], but config.json asks for \[{shape[0]}, {shape[1]}\]"
    )
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def test_a_config_of_more_layers_than_the_file_has_is_refused(saved: Path) -> None:
    file = saved / "config.json"
    config = json.loads(file.read_text("utf-8"))
    key = "n_layer" if config["model_type"] == "gpt2" else "num_hidden_layers"
    file.write_text(json.dumps(config | {key: 3}), "utf-8")
    with pytest.raises(CheckpointError, match=r"lacks the tensor '.*\.2\."):
        load_model(saved)
    file.write_text(json.dumps(config | {key: 1}), "utf-8")
    with pytest.raises(CheckpointError, match=r"has the tensor '.*\.1\."):
        load_model(saved)


@pytest.mark.parametrize("saved", ["llama, all options", "gpt2"], indirect=True)
def test_a_tied_head_may_be_there_twice_but_not_differ(saved: Path) -> None:
    tensors = stored(saved)
    embedding = next(t for name, t in tensors.items() if name.endswith(("embed_tokens.weight", "wte.weight")))
    change(saved, lambda tensors: tensors.update({"lm_head.weight": embedding.clone()}))
    model = load_model(saved)
    assert model.head.weight is model.embedding.tokens.weight
    change(saved, lambda tensors: tensors.update({"lm_head.weight": embedding + 1}))
    with pytest.raises(CheckpointError, match="tie_word_embeddings.*two that differ"):
        load_model(saved)


@pytest.mark.parametrize("saved", ["llama"], indirect=True)
def test_an_untied_head_must_be_there(saved: Path) -> None:
    change(saved, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(CheckpointError, match="lacks the tensor 'lm_head.weight'"):
        load_model(saved)


def test_a_revision_is_asked_of_a_hub_and_not_of_a_directory(saved: Path) -> None:
    with pytest.raises(HubError, match="revision='v1.0' asks for a hub, but .* is a directory here"):
        load_model(saved, revision="v1.0")


def test_a_model_that_does_not_know_its_configuration_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"this Decoder does not know its configuration.*build_model\(config\)"
    ):
        save_model(build(sized(1, vocab_size=8, max_positions=8)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_model_may_be_saved_over_the_files_it_was_loaded_from(saved: Path) -> None:
    model = load_model(saved)
    with torch.no_grad():
        model.head.weight.add_(1.0)
    wanted = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_model(model, saved)
    again = load_model(saved).state_dict()
    assert all(torch.equal(again[name], wanted[name]) for name in wanted)


def test_training_a_loaded_model_does_not_change_its_file(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    model = load_model(saved).train()
    model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert (saved / "model.safetensors").read_bytes() == before


def anonymous_bytes() -> int:
    """Memory of this process that is not a file's: what copies are made of."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    pytest.skip("this system does not say how much memory is a file's")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_loading_maps_the_file_and_copies_nothing(tmp_path: Path) -> None:
    model: Decoder = build_model(sized(8, vocab_size=20_000, max_positions=64))
    size = sum(parameter.nbytes for parameter in model.parameters())
    save_model(model, tmp_path)
    before = anonymous_bytes()
    loaded = load_model(tmp_path)
    assert anonymous_bytes() - before < size / 10
    assert loaded(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    assert anonymous_bytes() - before < size / 2


PEAK = """
import sys
import torch
from malmoi.models import load_model

def peak():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])

tiny, large, dtype = sys.argv[1:]
dtype = getattr(torch, dtype)
load_model(tiny, dtype=dtype)  # what is imported and set up once
before = peak()
model = load_model(large, dtype=dtype)
print((peak() - before) / sum(parameter.nbytes for parameter in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_loading_takes_a_tenth_more_than_the_weights_at_most(family: str, dtype: str, tmp_path: Path) -> None:
    """The peak of all memory, pages of the file included, of an fp32 file of 100 MB; GPT-2's is stored transposed."""
    for name, depth in (("tiny", 1), ("large", 14)):
        width = 32 * depth
        config = (
            sized(depth, vocab_size=1000, max_positions=64)
            if family == "llama"
            else GPT2Config(
                vocab_size=1000,
                hidden_size=width,
                intermediate_size=4 * width,
                num_layers=2 * depth if depth > 1 else 1,
                num_heads=depth,
                max_positions=64,
            )
        )
        save_model(build_model(config), tmp_path / name)
    command = [sys.executable, "-c", PEAK, tmp_path / "tiny", tmp_path / "large", dtype]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(child.stdout) <= 1.1
