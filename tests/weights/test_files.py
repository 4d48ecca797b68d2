"""Laws of the tensor files: nothing is lost, nothing half-written seen, nothing pickled or outside read."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from malmoi.core.errors import CheckpointError
from malmoi.testing.crash import dies_at
from malmoi.testing.full_disk import disk_with_room_for
from malmoi.weights.files import INDEX, SINGLE, read_tensors, split_into_shards, write_tensors

DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.int64,
    torch.uint8,
    torch.bool,
]
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
tensors_of = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
    st.builds(lambda shape, dtype: (torch.randn(shape) * 9).to(dtype), shapes, st.sampled_from(DTYPES)),
    max_size=6,
)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name]
        .contiguous()
        .flatten()
        .view(torch.uint8)
        .equal(other[name].contiguous().flatten().view(torch.uint8))
        for name in one
    )


def three(value: float) -> dict[str, Tensor]:
    """A checkpoint that is three shards at `max_shard_bytes=40`."""
    return {name: torch.full((10,), float(value)) for name in "abc"}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module", autouse=True)
def fast_disk() -> Iterator[None]:
    """Flushing takes most of the time and shows only after a power cut, see tests/core/test_files.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoint")


@given(tensors=tensors_of, max_shard_bytes=st.integers(1, 300))
def test_tensors_are_read_as_they_were_written_over_whatever_was_there(
    directory: Path, tensors: dict[str, Tensor], max_shard_bytes: int
) -> None:
    write_tensors(directory, tensors, max_shard_bytes=max_shard_bytes)
    assert same(read_tensors(directory), tensors)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 60))
def test_shards_are_those_of_hugging_face(sizes: list[int], max_bytes: int) -> None:
    state = {str(i): torch.empty(size, dtype=torch.uint8) for i, size in enumerate(sizes)}
    theirs = split_torch_state_dict_into_shards(state, max_shard_size=max_bytes)
    ours = split_into_shards({name: tensor.nbytes for name, tensor in state.items()}, max_bytes)
    assert ours == list(theirs.filename_to_tensors.values())


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("max_shard_bytes", [10_000_000, 3000])
def test_what_transformers_saves_we_read_and_write_again_file_for_file(
    llama: LlamaForCausalLM, tmp_path: Path, max_shard_bytes: int
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    llama.save_pretrained(theirs, max_shard_size=max_shard_bytes)
    assert same(read_tensors(theirs), llama.state_dict())
    write_tensors(ours, llama.state_dict(), max_shard_bytes=max_shard_bytes)
    weights = [name for name in names(theirs) if name.startswith("model")]
    assert weights == names(ours)
    assert len(weights) > 3 or max_shard_bytes > 3000
    for name in weights:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_what_we_write_transformers_loads_also_where_shards_replaced_others(
    llama: LlamaForCausalLM, tmp_path: Path
) -> None:
    llama.config.save_pretrained(tmp_path)
    for _ in range(2):
        write_tensors(tmp_path, llama.state_dict(), max_shard_bytes=3000)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        assert same(loaded.state_dict(), llama.state_dict())
    assert any(name.startswith("model-v2-00001-of-") for name in names(tmp_path))


def test_views_and_transposes_are_written_as_what_they_show(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    tensors = {"rows": whole[:1], "others": whole[1:], "transposed": whole.detach().clone().T}
    write_tensors(tmp_path, tensors)
    assert same(load_file(tmp_path / SINGLE), {name: tensor.detach() for name, tensor in tensors.items()})


def test_a_checkpoint_may_be_written_over_itself_while_it_is_open(tmp_path: Path) -> None:
    write_tensors(tmp_path, three(1), max_shard_bytes=40)
    for max_shard_bytes in (40, 1000, 40):
        write_tensors(tmp_path, read_tensors(tmp_path), max_shard_bytes=max_shard_bytes)
        assert same(read_tensors(tmp_path), three(1))


def test_a_tensor_that_is_read_and_changed_does_not_change_the_file(tmp_path: Path) -> None:
    write_tensors(tmp_path, three(1))
    read_tensors(tmp_path)["a"].add_(1)
    assert same(read_tensors(tmp_path), three(1))


def test_reading_maps_the_file_and_does_not_load_it(tmp_path: Path) -> None:
    write_tensors(tmp_path, {"big": torch.zeros(16_000_000)})

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident_bytes()
    tensors = read_tensors(tmp_path)
    assert "big" in tensors
    assert tensors["big"].numel() == 16_000_000
    assert resident_bytes() - before < 16_000_000


def test_other_files_of_the_directory_stay(tmp_path: Path) -> None:
    others = ["config.json", "adapter_model.safetensors", "model-notes.txt", "models.safetensors"]
    for name in others:
        (tmp_path / name).write_text("{}")
    write_tensors(tmp_path, three(1), max_shard_bytes=40)
    write_tensors(tmp_path, three(2))
    assert names(tmp_path) == sorted([*others, SINGLE])


@pytest.mark.parametrize("old_shard_bytes", [80, 1000])  # two shards, one file
@pytest.mark.parametrize("new_shard_bytes", [80, 1000])
def test_a_write_that_dies_at_any_step_leaves_the_old_or_the_new_checkpoint_whole(
    tmp_path: Path, old_shard_bytes: int, new_shard_bytes: int
) -> None:
    outcomes, step, died = set(), 0, [True]
    while died:
        shutil.rmtree(tmp_path)
        write_tensors(tmp_path, three(1), max_shard_bytes=old_shard_bytes)
        with dies_at(step) as died:
            write_tensors(tmp_path, three(2), max_shard_bytes=new_shard_bytes)
        found = read_tensors(tmp_path)
        assert same(found, three(1)) or same(found, three(2))
        outcomes.add(float(found["a"][0]))
        write_tensors(tmp_path, three(3), max_shard_bytes=new_shard_bytes)
        assert same(read_tensors(tmp_path), three(3))
        assert len(names(tmp_path)) == (1 if new_shard_bytes == 1000 else 3), (
            "what the dead writer left is removed"
        )
        step += 1
    assert outcomes == {1.0, 2.0}
    assert step > 8


def test_a_first_write_that_dies_leaves_no_checkpoint_or_a_whole_one(tmp_path: Path) -> None:
    step, died = 0, [True]
    while died:
        target = tmp_path / str(step)
        with dies_at(step) as died:
            write_tensors(target, three(1), max_shard_bytes=40)
        try:
            assert same(read_tensors(target), three(1))
        except CheckpointError as error:
            assert "Give " in str(error)  # noqa: PT017
        step += 1


def test_a_disk_that_fills_up_leaves_the_old_checkpoint_and_says_what_to_do(tmp_path: Path) -> None:
    write_tensors(tmp_path, three(1), max_shard_bytes=40)
    before = names(tmp_path)
    said = r"cannot write .*safetensors: .*Free space on that disk.*unchanged"
    with disk_with_room_for(100_000), pytest.raises(CheckpointError, match=said):
        write_tensors(
            tmp_path, {"small": torch.zeros(100), "big": torch.zeros(100_000)}, max_shard_bytes=1000
        )
    assert same(read_tensors(tmp_path), three(1))
    assert set(before) <= set(names(tmp_path))
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


def refusal(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_tensors(directory)
    assert str(directory) in str(caught.value)
    return str(caught.value)


def test_a_pickle_is_refused_with_a_way_out(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin, a pickle" in refusal(tmp_path)
    assert "save_pretrained" in refusal(tmp_path)


def test_a_directory_without_weights_or_none_at_all_is_refused(tmp_path: Path) -> None:
    assert f"has no {SINGLE} and no {INDEX}" in refusal(tmp_path)
    assert "is not a directory" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0, 4, 7, 30, -1])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, kept: int) -> None:
    write_tensors(tmp_path, three(1), max_shard_bytes=40)
    shard = tmp_path / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:kept])
    assert f"cannot read {shard}" in refusal(tmp_path)
    assert "fetch or save it again" in refusal(tmp_path)


@given(st.binary(max_size=64))
def test_a_file_of_anything_else_is_refused(directory: Path, content: bytes) -> None:
    garbage = directory / "garbage"
    garbage.mkdir(exist_ok=True)
    (garbage / SINGLE).write_bytes(content)
    refusal(garbage)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_tensors(tmp_path, three(1), max_shard_bytes=40)
    (tmp_path / "model-00003-of-00003.safetensors").unlink()
    assert "model-00003-of-00003.safetensors is missing" in refusal(tmp_path)


def change_index(directory: Path, change: dict[str, object]) -> None:
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"] |= change
    (directory / INDEX).write_text(json.dumps(index))


def test_an_index_that_names_an_absent_tensor_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path, three(1), max_shard_bytes=40)
    change_index(tmp_path, {"d": "model-00001-of-00003.safetensors"})
    assert "'d' is in model-00001-of-00003.safetensors, but it is not" in refusal(tmp_path)


@pytest.mark.parametrize(
    "outside",
    [
        "../other/model.safetensors",
        "/x/model.safetensors",
        "a/b.safetensors",
        "..",
        "c:\\m.safetensors",
        "model.bin",
        "",
        3,
        None,
        ["x"],
    ],
)
def test_an_index_is_never_followed_out_of_its_directory(tmp_path: Path, outside: object) -> None:
    write_tensors(tmp_path / "other", {"d": torch.ones(1)})
    write_tensors(tmp_path / "model", three(1), max_shard_bytes=40)
    change_index(tmp_path / "model", {"d": outside})
    assert "Nothing outside of the checkpoint's directory is read" in refusal(tmp_path / "model")


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "[]", "{", ""])
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    refusal(tmp_path)


def test_a_tensor_that_the_index_forgot_is_not_lost_and_of_two_it_says_which(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1), "extra": torch.ones(1)}, tmp_path / "1.safetensors")
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "2.safetensors")
    for shard, value in (("1.safetensors", 0), ("2.safetensors", 1)):
        (tmp_path / INDEX).write_text(
            json.dumps({"weight_map": {"a": shard, "b": "2.safetensors", "extra": "1.safetensors"}})
        )
        assert read_tensors(tmp_path)["a"] == value
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
    assert set(read_tensors(tmp_path)) == {"a", "extra"}


def test_tensors_that_share_memory_are_refused_by_name(tmp_path: Path) -> None:
    tied = torch.ones(3)
    with pytest.raises(CheckpointError, match=r"share memory.*'(head|embedding)'"):
        write_tensors(tmp_path, {"embedding": tied, "head": tied})


@pytest.mark.slow
def test_a_writer_killed_by_the_system_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    writer = f"""
import itertools, torch
from malmoi.weights.files import write_tensors
for value in itertools.count(2):
    tensors = {{name: torch.full((200_000,), float(value)) for name in "abc"}}
    write_tensors({str(tmp_path)!r}, tensors, max_shard_bytes=800_000)
    print(value, flush=True)
"""
    write_tensors(tmp_path, {n: torch.full((200_000,), 1.0) for n in "abc"}, max_shard_bytes=800_000)
    for delay in (0.0, 0.003, 0.011, 0.02, 0.037):
        process = subprocess.Popen([sys.executable, "-c", writer], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        found = read_tensors(tmp_path)
        assert {float(value) for n in "abc" for value in (found[n].min(), found[n].max())} == {
            float(found["a"][0])
        }
