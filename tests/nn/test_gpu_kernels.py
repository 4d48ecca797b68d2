"""The kernels for GPUs are their twins: in Triton's interpreter anywhere, by its compiler where there is a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

COMPARISON = Path(__file__).with_name("compare_gpu_kernels.py")
HAS_GPU = torch.cuda.is_available()

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not HAS_GPU, reason="there is no GPU here"))],
)
def test_every_kernel_for_gpus_is_its_twin(device: str) -> None:
    environment = os.environ | ({"TRITON_INTERPRET": "1"} if device == "cpu" else {})
    done = subprocess.run(
        [sys.executable, str(COMPARISON), device], env=environment, capture_output=True, text=True, timeout=600
    )
    compared = [line for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(compared) > 90
