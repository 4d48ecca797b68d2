"""What is in the files that `pip` gets: the code, the type marker, the licence and the default model."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def build(target: str, directory: Path) -> Path:
    """Build `wheel` or `sdist` offline, with the build backend that is installed."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = directory.iterdir()
    return built


def package_files() -> set[str]:
    """All files of the source tree that belong to the package, as paths in the wheel."""
    source = ROOT / "src"
    return {
        path.relative_to(source).as_posix()
        for path in (source / "malmoi").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_else(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build("wheel", tmp_path)).namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == package_files()
    assert {"malmoi/py.typed", "malmoi/default_model/model.safetensors"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


@pytest.mark.slow
def test_the_sdist_can_be_built_and_tested_from(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in package_files()} <= names
    assert {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "tests/conftest.py"} <= names
