"""A recording computes what its function computes, each time, and refuses what it could not compute again."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from malmoi.nn.kernels import native
from malmoi.nn.kernels.packed_product import packed_product
from malmoi.nn.kernels.packing import pack
from malmoi.nn.kernels.recording import CannotRecord, Recording
from malmoi.nn.kernels.rowwise import rms_norm


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def mixed(x: Tensor, panels: Tensor, weight: Tensor, memory: Tensor, place: Tensor) -> Callable[[], Tensor]:
    """Kernels, operators, views, a write into memory, and a reading of it."""

    def function() -> Tensor:
        normed = rms_norm(x, weight, 1e-5)
        y = packed_product(normed, panels, None, out_size=64).unflatten(-1, (4, 16))
        first, second = y.chunk(2, dim=1)
        memory.index_copy_(0, place, (first * second).flatten(1))
        parts = memory.float().sum(dim=0).split(8)
        chosen = torch.cat([part.softmax(dim=0) for part in parts])[torch.arange(31, -1, -1)]
        return chosen.bfloat16() + first.flatten(1)

    return function


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("level", native.levels())
def test_what_is_replayed_is_what_would_be_computed(level: str, threads: int) -> None:
    draw = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with native.using(level):
            x = torch.randn(3, 512, generator=draw).bfloat16()
            panels, weight = pack(torch.randn(64, 512, generator=draw).bfloat16()), torch.ones(512).bfloat16()
            memory, place = torch.zeros(5, 32).bfloat16(), torch.tensor([4, 0, 2])
            function = mixed(x, panels, weight, memory, place)
            recording = Recording(function)
            assert torch.equal(recording.out, function())
            for round in range(3):
                x.copy_(torch.randn(3, 512, generator=draw))
                place.copy_((place + 1) % 5)
                memory.fill_(round)
                replayed, written = recording.replay().clone(), memory.clone()
                memory.fill_(round)
                assert torch.equal(function(), replayed)
                assert torch.equal(memory, written)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "question",
    [
        lambda x: x * x.sum().item(),
        lambda x: x * (2 if x[0] > 0 else 3),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.unique(x),
        lambda x: torch.tensor(x.tolist()),
        lambda x: torch.from_numpy(x.numpy().copy()),
        lambda x: x[: int(x[0])],
        lambda x: x if 1.0 in x else -x,
        lambda x: torch.from_numpy(np.asarray(x).copy()),
        lambda x: torch.tensor([x[0], x[1]]),
        lambda x: (x * 2)[None].t_(),
    ],
)
def test_what_depends_on_the_numbers_is_refused(question: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(CannotRecord):
        Recording(lambda: question(torch.tensor([1.0, -2.0])))


def test_after_a_refusal_kernels_run_as_ever() -> None:
    x, weight = torch.randn(2, 64), torch.ones(64)
    with pytest.raises(CannotRecord):
        Recording(lambda: rms_norm(x, weight, 1e-5).tolist())
    before = rms_norm(x, weight, 1e-5)
    recording = Recording(lambda: rms_norm(x, weight, 1e-5))
    assert torch.equal(recording.replay(), before)


def test_an_error_of_the_function_is_its_own() -> None:
    def function() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Recording(function)


def test_the_memory_of_what_was_used_stays_its_own() -> None:
    x = torch.ones(1000)
    recording = Recording(lambda: (x * 2) * 3)
    others = [torch.full((1000,), 7.0) for _ in range(50)]  # would take freed memory
    assert recording.replay().eq(6).all()
    assert all(other.eq(7).all() for other in others)


def test_recording_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from malmoi.nn.kernels.recording import Recording\n"
        "with torch.inference_mode(): Recording(lambda: torch.ones(2) + 1).replay()\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
