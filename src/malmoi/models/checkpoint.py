"""A Hugging Face directory <-> a model: `load_model`, `save_model`.

`config.json` -> family -> its rules over the tensors -> the network. Saving is the same walk back, so that
what we save `transformers` loads, and what it saves we load. Read next: `llama.py` for a family's rules,
`weights/rules.py` for what a rule is.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.core.files import read_json, write_json
from malmoi.models.base import Family
from malmoi.models.huggingface import ConfigReader
from malmoi.models.quantized_files import (
    DTYPES,
    fill_quantized,
    require_same,
    take_config,
    tensors_of,
    write_config,
)
from malmoi.models.registry import family_of, find_family
from malmoi.nn.packed import plain_tensors, prepack
from malmoi.nn.quantized import PRECISIONS, Quantization, quantization_of, quantize
from malmoi.nn.stack import Model
from malmoi.weights.files import let_go, read_tensors, write_tensors
from malmoi.weights.hub import resolve
from malmoi.weights.patterns import match
from malmoi.weights.rules import Rules


def build_model(config: Any) -> Model:
    """The network of a configuration, with PyTorch's default weights, that remembers its configuration.

    Under `torch.device("meta")` it takes no memory: enough to count parameters. Raises ConfigError if the
    numbers do not fit together.

    >>> from malmoi.models import llama
    >>> build_model(llama.sized(2, vocab_size=256, max_positions=64)).config.hidden_size
    64
    """
    model = family_of(config).build(config)
    model.config = config
    return model


def load_config(directory: str | Path) -> Any:
    """The family configuration of a model directory.

    Raises ConfigError for a key or value that the family does not compute, CheckpointError if there is no
    readable `config.json`.
    """
    return _read_config(Path(directory))[1]


Dtype = torch.dtype | str
"""A precision to load in: PyTorch's own, or "bf16", "fp32", or that of packed weights, "int8" or "int4"."""

_SHORT = {"bf16": torch.bfloat16, "fp32": torch.float32}


def load_model(
    path_or_hub_id: str | Path,
    *,
    dtype: Dtype | None = None,
    device: torch.device | str = "cpu",
    revision: str | None = None,
    is_prepacked: bool = False,
) -> Model:
    """Load the model of a directory or hub id, for inference or further training.

    `dtype=None` keeps the precision of the file. Then the weights of most families are the file itself, mapped
    into memory: loading reads nothing, and writing to a weight does not change the file. With another precision the
    tensors are converted one by one, so that never more than one is there twice. "int8" and "int4" round the matrices
    of blocks, table and head (`nn.quantized.quantize`); a directory that was saved so is loaded as it is. `device` is
    where the model is to run, "cuda" for a GPU. `revision` is a branch, a tag or a commit of the hub. `is_prepacked`:
    bf16 matrices are laid out for the device (`nn.packed.prepack`), for inference alone, and the file's memory under
    them is given back.

        model = load_model("runs/my-model", dtype=torch.bfloat16)
        model(torch.tensor([[5, 6, 7]])).logits     # (1, 3, vocab_size)

    Raises:
        ConfigError: a key or value of `config.json` that the family does not compute, by name; a `dtype` that
            is not known, or that a quantised directory does not have; a `device` that is not here.
        CheckpointError: a tensor that is missing, extra or of another shape, by its name in the file.
        HubError: the hub id cannot be fetched, or a `revision` is asked of a directory.
    """
    directory = resolve(path_or_hub_id, revision=revision)
    family, config, quantized = _read_config(directory)
    precision, dtype = _asked(dtype)
    device = _here(device)
    if quantized is not None:
        require_same(precision or dtype, quantized[0], directory)
        with torch.device("meta"):
            model = build_model(config)
        fill_quantized(model, *quantized, directory)
        return model.to(device).eval()
    stored = read_tensors(directory)
    config = family.settle(config, stored)
    with torch.device("meta"):
        model = build_model(config)
    if dtype is not None:
        model.to(dtype)  # without memory: it says which precision each parameter gets
    rules = family.rules(config)
    expected, tied = _places(model, rules)
    tensors = _without_leftovers(family, stored, {*expected, *tied}, directory)
    mapped = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    tensors |= _absent_zeros(family, expected, tensors)
    _check_against(expected, tied, tensors, directory)
    _fill(model, rules.import_(tensors), directory, mapped=mapped, is_converted=dtype is not None)
    if precision is not None:
        quantize(model, precision, release=lambda weight: _let_go_if(weight, mapped))
    model.to(device)
    if precision is None and is_prepacked:
        prepack(model, release=lambda weight: _let_go_if(weight, mapped))
    return model.eval()


def _here(device: torch.device | str) -> torch.device:
    """Raises ConfigError for a device that PyTorch does not know or cannot use on this machine."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise ConfigError(
            f"device={str(device)!r} cannot be used here: {str(problem).splitlines()[0]}. Use 'cpu', or 'cuda' with "
            "a GPU and a build of PyTorch for it."
        ) from None
    return torch.device(device)


def save_model(model: Model, directory: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write the weights and `config.json` of `model` into `directory`, each atomically.

    `dtype=None` keeps the weights' own precision. Tokenizer, chat template and `generation_config.json` are
    saved by their owners; `config.json` names no special tokens, lest readers assume their family's own. A packed model
    is written as the one before; a quantised one as it is (`quantized_files`), and only Malmoi reads that.

        save_model(model, "runs/my-model", dtype=torch.bfloat16)

    Raises CheckpointError if the disk is full or cannot be written; what was there before is then unchanged. Raises
    ConfigError for a model that was not made by `build_model` or `load_model`, for a `dtype` of a quantised one, and
    for a quantised one whose other weights are of several precisions.
    """
    if not hasattr(model, "config"):
        raise ConfigError(
            f"this {type(model).__name__} does not know its configuration, which config.json is made of. "
            "Build it with malmoi.models.build_model(config)."
        )
    directory = Path(directory)
    family = family_of(model.config)
    quantization = quantization_of(model)
    if quantization is not None and dtype is not None:
        raise ConfigError(f"this model is quantised, so it cannot be saved as {dtype}. Leave dtype out.")
    tensors = plain_tensors(model) if quantization is None else tensors_of(model)
    if dtype is not None:
        with torch.device("meta"):
            converted = plain_tensors(build_model(model.config).to(dtype))
        # Not of `dtype`: some parameters keep their own precision (`moe.SigmoidRouter`).
        tensors = {name: tensor.to(converted[name].dtype) for name, tensor in tensors.items()}
    stored = next(iter(tensors.values())).dtype
    if quantization is not None:
        _require_one_precision(model, tensors, stored)
    else:
        tensors = family.rules(model.config).export(tensors)
    write_tensors(directory, tensors)
    config = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "dtype": str(stored).removeprefix("torch."),
        "bos_token_id": None,
        "eos_token_id": None,
        **family.write_config(model.config),
        **({} if quantization is None else write_config(quantization, stored)),
    }
    write_json(directory / "config.json", config, error=CheckpointError)


def _require_one_precision(model: Model, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Raises ConfigError if what is not packed would not be found again: a quantised directory names one precision."""
    with torch.device("meta"):
        expected = dict(build_model(model.config).to(dtype).named_parameters())
    for name, tensor in tensors.items():
        if dtype not in DTYPES.values() or (name in expected and tensor.dtype != expected[name].dtype):
            raise ConfigError(
                f"this model is quantised, and {name!r} beside it is in {tensor.dtype}. What is not packed is saved in "
                f"one precision, of {', '.join(DTYPES)}: call model.to(torch.bfloat16) before."
            )


def _asked(dtype: Dtype | None) -> tuple[str | None, torch.dtype | None]:
    """The precision of the packed weights, if that is what is asked for, or else that of all."""
    if not isinstance(dtype, str):
        return None, dtype
    if dtype in PRECISIONS:
        return dtype, None
    if dtype not in _SHORT:
        raise ConfigError(f"dtype={dtype!r} is not known. Use {', '.join([*_SHORT, *PRECISIONS])}.")
    return None, _SHORT[dtype]


def _let_go_if(weight: Tensor, mapped: AbstractSet[int]) -> None:
    """Of a weight that is mapped from its file, and now read for the last time."""
    if weight.untyped_storage().data_ptr() in mapped:
        let_go(weight)


def _read_config(directory: Path) -> tuple[Family[Any], Any, tuple[Quantization, torch.dtype] | None]:
    file = directory / "config.json"
    raw = read_json(file, error=CheckpointError)
    quantized = take_config(raw, where=str(file))
    reader = ConfigReader(raw, where=str(file))
    family = find_family(reader.take("model_type", str))
    config = family.read_config(reader)
    reader.finish()
    return family, config, quantized


def _without_leftovers(
    family: Family[Any], tensors: Mapping[str, Tensor], places: AbstractSet[str], directory: Path
) -> dict[str, Tensor]:
    """The weights alone, under the names that the rules expect; one that is there by two names has to be the same."""
    prefix = family.optional_prefix
    is_bare = prefix and not any(name.startswith(prefix) for name in tensors)
    names: dict[str, str] = {}
    for name in tensors:
        current = _current_name(family, prefix + name if is_bare and name != "lm_head.weight" else name)
        if current not in places and any(
            match(pattern, current) is not None for pattern in family.ignored_tensors
        ):
            continue
        other = names.setdefault(current, name)
        if other != name and not torch.equal(tensors[other], tensors[name]):
            raise CheckpointError(
                f"{directory}: {other!r} and {name!r} are one in this family, but the checkpoint has two that differ. "
                "It is of another network."
            )
    return {current: tensors[name] for current, name in names.items()}


def _absent_zeros(
    family: Family[Any], expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What this checkpoint leaves out because it is zero, in the precision of its weights."""
    dtype = next((tensor.dtype for tensor in tensors.values()), None)
    absent = [name for name in family.zero_if_absent if name in expected and name not in tensors]
    return {name: torch.zeros(expected[name].shape, dtype=dtype) for name in absent}


def _current_name(family: Family[Any], name: str) -> str:
    for old, new in family.old_prefixes.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in family.old_endings.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _tied_names(model: Model) -> dict[str, str]:
    """The further names of tied parameters, each with the first name of the same one."""
    first_names: dict[nn.Parameter, str] = {}
    names = {
        name: first_names.setdefault(parameter, name)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    return {name: first for name, first in names.items() if name != first}


def _places(model: Model, rules: Rules) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors that `model` would be saved with, by their names in a checkpoint, and the tied ones beside them."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tied = {name: parameters[name].detach() for name in _tied_names(model)}
    return rules.export(plain_tensors(model)), rules.export(tied)


def _check_against(
    expected: Mapping[str, Tensor], tied: Mapping[str, Tensor], tensors: Mapping[str, Tensor], directory: Path
) -> None:
    """Compare names and shapes with those of `_places`, on the meta device."""
    if missing := sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(
            f"{directory} lacks the tensor {missing[0]!r}{_and_more(missing)}. "
            "The checkpoint is incomplete, or config.json describes another model."
        )
    if extra := sorted(tensors.keys() - expected.keys() - tied.keys()):
        raise CheckpointError(
            f"{directory} has the tensor {extra[0]!r}{_and_more(extra)}, which this configuration has no place "
            "for. Loading without it would change the answers: config.json describes another model."
        )
    for name, wanted in {**tied, **expected}.items():
        if name in tensors and tensors[name].shape != wanted.shape:
            raise CheckpointError(
                f"{directory}: the tensor {name!r} has the shape {list(tensors[name].shape)}, but config.json "
                f"asks for {list(wanted.shape)}. They are not of the same checkpoint."
            )


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _fill(
    model: Model,
    tensors: Mapping[str, Tensor],
    directory: Path,
    *,
    mapped: AbstractSet[int],
    is_converted: bool,
) -> None:
    """Put the tensors into a model that was built without memory, tied places once.

    `is_converted`: into the precision that the model has. What is copied lets go of its file; `mapped` are the
    addresses of the storages that are files.
    """
    tied = _tied_names(model)
    for name, first in tied.items():
        if name in tensors and not torch.equal(tensors[name], tensors[first]):
            raise CheckpointError(
                f"{directory}: config.json says that {name!r} and {first!r} are one (tie_word_embeddings), but the "
                "checkpoint has two that differ. Set tie_word_embeddings to false in config.json."
            )
    filled: dict[str, nn.Parameter] = {}
    for name, empty in dict(model.named_parameters(remove_duplicate=False)).items():
        first = tied.get(name, name)
        if first not in filled:
            # A copy only of what was transposed: in bf16 a product with a single row reads that 2.6 times slower.
            stored = tensors[first]
            dtype = empty.dtype if is_converted else stored.dtype
            tensor = stored.to(dtype, memory_format=torch.contiguous_format).contiguous()
            if tensor is not stored and stored.untyped_storage().data_ptr() in mapped:
                let_go(stored)
            filled[first] = nn.Parameter(tensor, requires_grad=empty.requires_grad)
        module, _, key = name.rpartition(".")
        setattr(model.get_submodule(module), key, filled[first])
