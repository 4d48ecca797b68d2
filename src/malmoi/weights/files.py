"""Tensors on disk: the safetensors files of a Hugging Face directory, read lazily and replaced all at once.

A checkpoint is `model.safetensors`, or several shards and `model.safetensors.index.json`, which says in which
shard each tensor is. Tensors are mapped from the file when asked for. Pickle (`pytorch_model.bin`) is never
opened: loading one runs whatever code its author put in.

Place in the flow: `hub.resolve` -> this -> `rules.py`. Read next: `core/files.py`, on which writing rests.
"""

import ctypes
import mmap
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from malmoi.core.errors import CheckpointError
from malmoi.core.files import atomic_write, read_json, write_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_OURS = re.compile(r"model((-v\d+)?-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_LEFTOVER = re.compile(r"\.model.*\.tmp")  # of `atomic_write`


# --- reading -----------------------------------------------------------------------------------------------


def read_tensors(directory: str | Path) -> Mapping[str, Tensor]:
    """Open a checkpoint: a mapping of names to tensors, each mapped into memory when it is asked for.

    All shards are opened at once, so that what is missing or damaged is found here, not halfway through
    loading. A tensor may be changed in memory (copy on write); the file stays as it is.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_tensors(directory, {"norm.weight": torch.ones(3)})
    ...     read_tensors(directory)["norm.weight"]
    tensor([1., 1., 1.])

    Raises:
        CheckpointError: no safetensors, only pickles, a shard that is missing or cut short, an index that
            names a tensor that is not there or a file outside of the directory.
    """
    directory = Path(directory)
    if (directory / SINGLE).exists():  # before the index, as transformers does; write_tensors relies on it
        return _Tensors({SINGLE: _Shard(directory / SINGLE)}, {})
    if (directory / INDEX).exists():
        return _read_sharded(directory)
    raise CheckpointError(_why_nothing_to_read(directory))


def let_go(tensor: Tensor) -> None:
    """Give back the memory under a tensor that is mapped from its file and was not changed; it can be read again.

    What was read of a mapped file counts as this process's memory until then, although the system could take it back
    at any time. Only Linux is told. Never call it with a tensor that is not a file's: its numbers would be lost.
    """
    if sys.platform == "linux":
        reach = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        page, start = mmap.PAGESIZE, tensor.data_ptr()
        first, last = -(-start // page) * page, (start + reach * tensor.itemsize) // page * page
        if first < last:
            libc = ctypes.CDLL(None)
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


class _Shard:
    """One safetensors file, open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))  # its methods are not annotated
            self.names: frozenset[str] = frozenset(self._file.keys())
        except FileNotFoundError:
            raise CheckpointError(
                f"{path} is missing. The checkpoint is incomplete: fetch or copy that file too."
            ) from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"cannot read {path}: {error}. It may be damaged or cut short: fetch or save it again."
            ) from error

    def read(self, name: str) -> Tensor:
        try:
            tensor: Tensor = self._file.get_tensor(name)
        except (SafetensorError, RuntimeError) as error:  # a dtype that this torch does not have, for one
            raise CheckpointError(f"{self.path}: cannot read the tensor {name!r}: {error}.") from error
        return tensor


class _Tensors(Mapping[str, Tensor]):
    def __init__(self, shards: Mapping[str, _Shard], weight_map: Mapping[str, str]) -> None:
        # What the shards really hold, so that no tensor is lost that the index forgot; it says which of two.
        self._shard_of = {name: shard for shard in shards.values() for name in sorted(shard.names)}
        self._shard_of |= {name: shards[shard_name] for name, shard_name in weight_map.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._shard_of[name].read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._shard_of  # Mapping's own would read the tensor to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __len__(self) -> int:
        return len(self._shard_of)


def _read_sharded(directory: Path) -> _Tensors:
    weight_map = _read_weight_map(directory / INDEX)
    shards = {name: _Shard(directory / name) for name in sorted(set(weight_map.values()))}
    for name, shard in weight_map.items():
        if name not in shards[shard].names:
            raise CheckpointError(
                f"{directory / INDEX} says that {name!r} is in {shard}, but it is not. "
                "Index and shards are of different checkpoints: fetch or save them again."
            )
    return _Tensors(shards, weight_map)


def _read_weight_map(path: Path) -> dict[str, str]:
    weight_map = read_json(path, error=CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path} has no weight_map. Fetch or save it again.")
    for shard in weight_map.values():
        # An index comes from strangers: it names files of its own directory, nothing else.
        if not isinstance(shard, str) or not re.fullmatch(r"[^/\\\0]+\.safetensors", shard):
            raise CheckpointError(
                f"{path} names the file {shard!r}, which is not a plain *.safetensors name. "
                "Nothing outside of the checkpoint's directory is read: do not use this checkpoint."
            )
    return weight_map


def _why_nothing_to_read(directory: Path) -> str:
    if not directory.is_dir():
        return f"{directory} is not a directory. Give the one that holds config.json and {SINGLE}."
    pickles = sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        return (
            f"{directory} has its weights only as {pickles[0]}, a pickle: opening one can run any code, "
            "so it is never read. If you trust it, convert it once with transformers: "
            "AutoModelForCausalLM.from_pretrained(path).save_pretrained(path)."
        )
    return f"{directory} has no {SINGLE} and no {INDEX}. Give a directory with safetensors weights."


# --- writing -----------------------------------------------------------------------------------------------


def write_tensors(
    directory: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    max_shard_bytes: int = 5_000_000_000,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors` as the one checkpoint of `directory`, sharded and indexed as Hugging Face does.

    Replaces the checkpoint that is there in one step, its old shards removed after: killed at any moment, or
    on a full disk, `read_tensors` finds all of the old one or all of the new one. Until then both are on the
    disk. The tensors may be those of the old checkpoint. One writer at a time. Tensors must not share memory:
    leave out the second name of a tied weight. `metadata` goes into the header of every file.

    Shards are named `model-00001-of-00003.safetensors`, or `model-v2-...` where those of the checkpoint to be
    replaced have the names.

    Raises:
        CheckpointError: the disk is full or not writable; two tensors share memory.
    """
    directory = Path(directory)
    metadata = {"format": "pt", **(metadata or {})}  # transformers refuses a file without a format
    shards = split_into_shards({name: t.numel() * t.itemsize for name, t in tensors.items()}, max_shard_bytes)
    names = [SINGLE] if len(shards) == 1 else _free_names(directory, len(shards))
    for name, shard in zip(names, shards, strict=True):
        _write_shard(directory / name, {key: tensors[key] for key in shard}, metadata)
    if len(shards) > 1:
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        write_json(directory / INDEX, _index(tensors, weight_map), error=CheckpointError)
        names.append(INDEX)
    _remove_all_but(directory, names)


def split_into_shards(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    """Return the names of each shard, filled in order; a tensor larger than `max_bytes` gets one of its own.

    >>> split_into_shards({"a": 6, "b": 6, "c": 2, "d": 11}, 10)
    [['a'], ['d'], ['b', 'c']]
    """
    shards: list[list[str]] = []
    current: list[str] = []
    filled = 0
    for name, size in sizes.items():
        if size > max_bytes:
            shards.append([name])
            continue
        if filled + size > max_bytes:
            shards.append(current)
            current, filled = [], 0
        current.append(name)
        filled += size
    return [*shards, current] if current or not shards else shards


def _write_shard(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path, error=CheckpointError) as temporary:
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except SafetensorError as error:  # which tells the number of the disk's error in its text only
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise CheckpointError(f"cannot write {path}: {error}.") from error
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        except RuntimeError as error:
            shared = " ".join(str(error).split())
            raise CheckpointError(f"cannot write {path}: {shared}") from error


def _index(tensors: Mapping[str, Tensor], weight_map: Mapping[str, str]) -> dict[str, Any]:
    sizes = [(tensor.numel(), tensor.itemsize) for tensor in tensors.values()]
    total = {"total_parameters": sum(n for n, _ in sizes), "total_size": sum(n * width for n, width in sizes)}
    return {"metadata": total, "weight_map": dict(sorted(weight_map.items()))}


def _free_names(directory: Path, num_shards: int) -> list[str]:
    """Return names that no file has yet: the old shards must stay until the index changes."""
    version = 1
    while True:
        stem = "model" if version == 1 else f"model-v{version}"
        names = [f"{stem}-{i:05d}-of-{num_shards:05d}.safetensors" for i in range(1, num_shards + 1)]
        if not any((directory / name).exists() for name in names):
            return names
        version += 1


def _remove_all_but(directory: Path, names: Collection[str]) -> None:
    """Remove the other checkpoints of `directory`, and what a killed writer left there.

    For new shards in the place of a single file this is the step that counts: the file outranks their index.
    """
    try:
        for path in directory.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in names:
                path.unlink()
            elif _LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path)
    except OSError as error:
        raise CheckpointError(f"cannot remove the old checkpoint from {directory}: {error}.") from error
