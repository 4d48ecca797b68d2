"""The tiny models of every family, and what the laws of models share.

A family is one file in `families/`: `OURS` are its tiny configurations, plain and with every option that its page
has, `THEIRS` configurations of the reference. What it may say besides, and what is meant if it does not, are the
fields of `Case`.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from malmoi.models import build_model
from malmoi.models.huggingface import ConfigReader
from malmoi.models.registry import find_family
from malmoi.nn.cache import KeyValueSpec
from malmoi.nn.moe import MoE
from malmoi.nn.stack import Decoder, Encoder, EncoderDecoder, Model

VOCAB_SIZE = 61  # of every tiny model
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A tiny configuration, ours or the reference's, and how such a model is called.

    Attributes:
        without_gradient: patterns of parameters that no gradient reaches, each with the reason.
        copied: patterns of parameters that loading has to copy, each with the reason.
        is_one_graph: whether the compiler takes the model as a whole.
        inputs: what a model is called with; by default tokens, and what its kind needs besides.
        has_reference: whether transformers has the family.
        call_reference: the reference's output for the same inputs.
    """

    name: str
    config: Any
    without_gradient: dict[str, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    is_one_graph: bool = True
    has_reference: bool = True
    inputs: Callable[[Model], Inputs] | None = None
    call_reference: Callable[[Any, Inputs], Tensor] | None = None

    def may_lack_gradient(self, parameter: str) -> bool:
        return any(fnmatchcase(parameter, pattern) for pattern in self.without_gradient)

    def may_be_copied(self, parameter: str) -> bool:
        return any(fnmatchcase(parameter, pattern) for pattern in self.copied)

    @property
    def is_routed(self) -> bool:
        """Whether a token's state decides which experts see it.

        Such a model cannot run without values, and near a tie a rounding changes what it computes.
        """
        return any(isinstance(module, MoE) for module in empty_model(self).modules())

    @property
    def bf16_tolerance(self) -> float:
        """How far bf16 may be from fp32, as a part of the largest value."""
        return 0.5 if self.is_routed else 0.1

    def __str__(self) -> str:
        return self.name


def family_modules() -> Iterator[ModuleType]:
    for file in sorted((Path(__file__).parent / "families").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"families.{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@cache
def cases(which: str) -> list[Case]:
    """The cases of `OURS` or `THEIRS`, over all families."""
    found = []
    for module in family_modules():
        stem = module.__name__.rpartition(".")[2]
        for name, config in getattr(module, which, {}).items():
            found.append(
                Case(
                    name=name if name.startswith(stem) else f"{stem}, {name}",
                    config=config,
                    without_gradient=getattr(module, "WITHOUT_GRADIENT", {}),
                    copied=getattr(module, "COPIED", {}),
                    is_one_graph=getattr(module, "IS_ONE_GRAPH", True),
                    has_reference=getattr(module, "HAS_REFERENCE", True),
                    inputs=getattr(module, "inputs", None),
                    call_reference=getattr(module, "call_reference", None),
                )
            )
    return found


def empty_model(case: Case) -> Model:
    """The model of a case without memory, ours or the reference's read as ours."""
    config = case.config
    if isinstance(config, transformers.PreTrainedConfig):
        family = find_family(config.model_type)
        config = family.read_config(ConfigReader(json.loads(config.to_json_string()), where=case.name))
    with torch.device("meta"):
        return build_model(config)


def is_decoder(case: Case) -> bool:
    return isinstance(empty_model(case), Decoder)


def is_of_tokens(case: Case) -> bool:
    """Whether tokens are all that the model is called with."""
    return case.inputs is None and isinstance(empty_model(case), Decoder | Encoder | EncoderDecoder)


def is_text_to_text(case: Case) -> bool:
    return is_of_tokens(case) and isinstance(empty_model(case), EncoderDecoder)


def has_window(case: Case) -> bool:
    specs = empty_model(case).cache_specs()
    return is_decoder(case) and any(isinstance(s, KeyValueSpec) and s.window for s in specs)


# A test that takes one of these runs over the cases that it names.
CHOICES: dict[str, tuple[str, Callable[[Case], bool]]] = {
    "case": ("OURS", lambda case: True),
    "referenced_case": ("OURS", lambda case: case.has_reference),
    "decoder_case": ("OURS", is_decoder),
    "windowed_case": ("OURS", has_window),
    "encoder_case": ("OURS", lambda case: isinstance(empty_model(case), Encoder)),
    "encoder_decoder_case": ("OURS", lambda case: isinstance(empty_model(case), EncoderDecoder)),
    "text_to_text_case": ("OURS", is_text_to_text),
    "their_case": ("THEIRS", lambda case: True),
    "their_decoder_case": ("THEIRS", is_decoder),
    "their_token_case": ("THEIRS", is_of_tokens),
    "their_text_to_text_case": ("THEIRS", is_text_to_text),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test over the cases that its argument asks for."""
    for name in metafunc.fixturenames:
        if name in CHOICES:
            which, is_chosen = CHOICES[name]
            metafunc.parametrize(name, [case for case in cases(which) if is_chosen(case)], ids=str)


@pytest.fixture(scope="session")
def all_cases() -> list[Case]:
    """Every case of `OURS`, for tests that run over them in one go."""
    return cases("OURS")


# --- ways to call a model ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def inputs_of() -> Callable[[Case, Model], Inputs]:
    """A function that draws what a model of a case is called with: two rows of 12 tokens, and its kind's rest."""

    def draw(case: Case, model: Model) -> Inputs:
        if case.inputs is not None:
            return case.inputs(model)
        inputs = {"tokens": torch.randint(VOCAB_SIZE, (2, 12))}
        if isinstance(model, EncoderDecoder):
            inputs["decoder_tokens"] = torch.randint(VOCAB_SIZE, (2, 7))
        return inputs

    return draw


@pytest.fixture(scope="session")
def call() -> Callable[[Model, Inputs], Tensor]:
    """A function from a model and its inputs to what its head makes, or its states where it has none."""

    def run(model: Model, inputs: Inputs) -> Tensor:
        out = model(**inputs)
        made: list[Tensor | None] = [getattr(out, name, None) for name in ("logits", "pooled", "hidden")]
        return next(tensor for tensor in made if tensor is not None)

    return run


@pytest.fixture(scope="session")
def load_reference() -> Callable[[Path], Any]:
    """A function that loads a directory with transformers."""

    def load(directory: Path) -> Any:
        config = transformers.AutoConfig.from_pretrained(directory)
        assert config.architectures
        return getattr(transformers, config.architectures[0]).from_pretrained(directory).eval()

    return load


@pytest.fixture(scope="session")
def save_reference(randomise: Callable[[Any], Any]) -> Callable[[Case, Path], Any]:
    """A function that makes the reference's model of a case, with random weights, and saves it."""

    def save(case: Case, directory: Path) -> Any:
        config = case.config
        auto = transformers.AutoModelForCausalLM
        model = (
            getattr(transformers, config.architectures[0])(config)
            if config.architectures
            else auto.from_config(config)
        )
        randomise(model).eval().save_pretrained(directory)
        return model

    return save


@pytest.fixture(scope="session")
def call_reference() -> Callable[[Case, Any, Inputs], Tensor]:
    """A function from transformers' model and our inputs to what `call` gives for ours."""
    names = {"tokens": "input_ids", "decoder_tokens": "decoder_input_ids", "mask": "attention_mask"}
    names["token_types"] = "token_type_ids"

    @torch.no_grad()
    def run(case: Case, theirs: Any, inputs: Inputs) -> Tensor:
        if case.call_reference is not None:
            return case.call_reference(theirs, inputs)
        out = theirs(**{names.get(name, name): tensor for name, tensor in inputs.items()})
        tensor: Tensor = out.logits if hasattr(out, "logits") else out.last_hidden_state
        return tensor

    return run


# --- weights and comparison --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def randomise() -> Callable[[Any], Any]:
    """A function that gives a model weights which nothing can be confused with: no zero bias, no norm of ones."""

    @torch.no_grad()
    def change(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            noise = torch.empty_like(parameter).normal_(std=0.3, generator=generator)
            parameter.copy_(parameter + noise if parameter.ndim == 1 else noise)
        return model

    return change


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    """A function that compares within 1e-5 of the largest value, or as many as are said."""

    def check(ours: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
        assert ours.shape == wanted.shape
        assert ours.isfinite().all()
        difference = (ours.float() - wanted.float()).abs().max() / wanted.float().abs().max()
        assert difference <= tolerance, f"they differ by {difference:.1e} of the largest value"

    return check
