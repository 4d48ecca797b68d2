"""What is in the files that `pip` gets: the code, the kernels, the type marker, the licence and the default model."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNELS = "malmoi/nn/kernels/_native"  # and the name of the platform


def build(target: str, directory: Path, **environment: str) -> Path:
    """Build `wheel` or `sdist` offline, with the build backend that is installed."""
    code = f"from scikit_build_core.build import build_{target} as build; build({str(directory)!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env={**os.environ, **environment},
    )
    (built,) = directory.iterdir()
    return built


def package_files() -> set[str]:
    """All files of the source tree that belong to the package, as paths in the wheel."""
    source = ROOT / "src"
    return {
        path.relative_to(source).as_posix()
        for path in (source / "malmoi").rglob("*")
        if path.is_file() and not any(part.endswith(("__pycache__", "_cache")) for part in path.parts)
    }


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_else(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build("wheel", tmp_path)).namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    assert {name.partition(".")[0] for name in names - metadata - package_files()} <= {KERNELS}
    assert names >= package_files()
    assert {"malmoi/py.typed", "malmoi/default_model/model.safetensors"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_the_package_without_its_kernels(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path, CXX="/bin/false")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == package_files()


@pytest.mark.slow
def test_the_sdist_can_be_built_and_tested_from(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in package_files()} <= names
    assert {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "tests/conftest.py"} <= names
    assert {"csrc/CMakeLists.txt", "csrc/linear.h"} <= names
