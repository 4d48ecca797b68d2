"""A quantised model on disk: the packed weights as they lie in memory, under our own names.

`config.json` is the family's, with one more key:

    "quantization_config": {"quant_method": "malmoi", "precision": "int4", "head": "auto", "group_size": 32,
                            "rounds_tables": true, "dtype": "bfloat16"}

and `model.safetensors` has, for each packed weight, `<name>.packed.codes` and `<name>.packed.scales`
(`nn/kernels/packing.py` says how they lie), and every other parameter under the name that it has in the model. Without
`rounds_tables`, as the first of these directories are, a table that no head is tied to is such a parameter. No
family's rules are asked: a tensor of theirs may be two of ours, and codes cannot be cut. `dtype` is the precision of
what is not packed.
Place in the flow: `checkpoint.py` calls this. Read next: `nn/quantized.py`.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.core.files import read_json
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.packed import join
from malmoi.nn.quantized import Quantization, quantize
from malmoi.nn.stack import Model
from malmoi.weights.files import let_go, read_tensors

KEY = "quantization_config"
METHOD = "malmoi"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


def write_config(quantization: Quantization, dtype: torch.dtype) -> dict[str, Any]:
    """What `take_config` reads.

    >>> write_config(Quantization(precision="int4"), torch.bfloat16)["quantization_config"]["precision"]
    'int4'
    """
    name = str(dtype).removeprefix("torch.")
    return {KEY: {"quant_method": METHOD, **asdict(quantization), "dtype": name}}


def take_config(raw: dict[str, Any], *, where: str) -> tuple[Quantization, torch.dtype] | None:
    """How the weights of a directory are rounded; None if they are not, or in another way than ours.

    Takes the key out of `raw`, a config.json (mutates it); that of another method stays, for the family to refuse.
    """
    part = raw.get(KEY)
    if not isinstance(part, dict) or part.get("quant_method") != METHOD:
        return None
    reader = ConfigReader(raw.pop(KEY), where=f"{where}: {KEY}")
    reader.require("quant_method", METHOD)
    reader.require("dtype", *DTYPES)
    quantization = Quantization(
        precision=reader.take("precision", str),
        head=reader.take("head", str),
        group_size=reader.positive("group_size", int),
        rounds_tables=reader.take("rounds_tables", bool, False),
    )
    dtype = DTYPES[reader.take("dtype", str)]
    reader.finish()
    return quantization, dtype


def read_quantization(directory: Path) -> tuple[Quantization, torch.dtype] | None:
    """How a directory is rounded, and in what the rest of it is; None if it is not.

    Raises CheckpointError for a `config.json` that cannot be read, ConfigError for a rounding that is not known.
    """
    file = directory / "config.json"
    return take_config(read_json(file, error=CheckpointError), where=str(file))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, codes and scales by name, each once; they share the model's memory."""
    return {
        **{name: parameter.detach() for name, parameter in model.named_parameters()},
        **dict(model.named_buffers()),
    }


def fill_quantized(model: Model, quantization: Quantization, dtype: torch.dtype, directory: Path) -> None:
    """Give a model that was built without memory the weights of a quantised directory (mutates it).

    Codes are the file itself, mapped into memory, but for those that are joined (`packed.join`): these are copied, and
    their part of the file let go of. Raises CheckpointError for a tensor that is missing, extra or of another shape or
    precision.
    """
    quantize(
        model.to(dtype),
        quantization.precision,
        group_size=quantization.group_size,
        head=quantization.head,
        rounds_tables=quantization.rounds_tables,
    )
    stored, expected = read_tensors(directory), tensors_of(model)
    if different := sorted(stored.keys() ^ expected.keys()):
        raise CheckpointError(
            f"{directory}: the tensor {different[0]!r} is {'extra' if different[0] in stored else 'missing'}. The "
            "checkpoint is incomplete, or config.json describes another model: quantize and save it again."
        )
    filled: dict[Tensor, nn.Parameter] = {}
    for name, empty in expected.items():
        tensor = stored[name]
        if (tensor.shape, tensor.dtype) != (empty.shape, empty.dtype):
            raise CheckpointError(
                f"{directory}: the tensor {name!r} is {list(tensor.shape)} of {tensor.dtype}, but config.json asks for "
                f"{list(empty.shape)} of {empty.dtype}. They are not of the same checkpoint."
            )
        owner, _, key = name.rpartition(".")
        module = model.get_submodule(owner)
        if key in module._buffers:
            setattr(module, key, tensor)
        else:
            parameter = getattr(module, key)
            filled[parameter] = nn.Parameter(tensor, requires_grad=parameter.requires_grad)
    places = list(model.named_parameters(remove_duplicate=False))  # a tied one has several
    for name, parameter in places:
        owner, _, key = name.rpartition(".")
        setattr(model.get_submodule(owner), key, filled[parameter])
    join(model, release=let_go)


def require_same(asked: object, quantization: Quantization, directory: Path) -> None:
    """Raises ConfigError for a precision that a quantised directory does not have: it has no other."""
    if asked is not None and asked != quantization.precision:
        raise ConfigError(
            f"{directory} is quantised to {quantization.precision}, so dtype={asked} cannot be had from it. Leave "
            "dtype out, or load the directory that it was made from."
        )
