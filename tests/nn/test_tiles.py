"""Where no processor multiplies tiles (AMX), its instructions are emulated, and the kernels hold the same laws."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from malmoi.nn.kernels import native

HERE = Path(__file__).parent
AS_NATIVE = """
import importlib.util, os, sys

def pytest_configure(config):
    name = "malmoi.nn.kernels._native"
    spec = importlib.util.spec_from_file_location(name, os.environ["EMULATED"])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
"""
"""A plugin for pytest: kernels from another file."""


@pytest.mark.slow
def test_kernels_in_tiles_hold_the_laws_of_all_levels(tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if cmake is None or "avx512_bf16" not in native.levels():
        pytest.skip("needs cmake, a compiler and a processor with AVX-512 BF16")
    header = f"-DEMULATED_TILES={HERE / 'emulated_tiles.h'}"
    of_python = [f"-DPython_EXECUTABLE={sys.executable}", f"-DPython_ROOT_DIR={sys.prefix}"]
    source, build = HERE.parents[1] / "csrc", tmp_path / "build"
    run(cmake, "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", header, *of_python)
    run(cmake, "--build", build, "--parallel", "2")
    (tmp_path / "as_native.py").write_text(AS_NATIVE, "utf-8")
    [module] = build.glob("_native*.so")
    said = run(
        *(sys.executable, "-m", "pytest", HERE / "test_native.py", "-k", "avx512_amx", "-q"),
        *("-p", "as_native", "-p", "no:cacheprovider", "-p", "no:xdist"),
        env={"PYTHONPATH": str(tmp_path), "EMULATED": str(module), "OMP_NUM_THREADS": "2"},
    )
    assert " passed" in said
    assert "skipped" not in said


def run(*command: object, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_weights_are_packed_where_the_kernels_use_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from malmoi.nn import packed

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: True)
    for level, expected in {"avx512_amx": True, "avx512_bf16": False, native.TWINS: False}.items():
        monkeypatch.setattr(packed, "level", lambda level=level: level)
        assert packed.is_worth_packing() is expected
