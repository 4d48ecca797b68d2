"""Laws of core/config.py: what goes out comes back, and nothing is read that was not declared."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.config import Kinds, from_mapping, override, to_mapping
from malmoi.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Dense:
    kind: Literal["dense"] = "dense"
    size: int = 64


@dataclass(frozen=True, kw_only=True)
class Experts:
    kind: Literal["experts"] = "experts"
    size: int = 16
    num_experts: int = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    path: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    schedule: Literal["cosine", "wsd"] = "cosine"


@dataclass(frozen=True, kw_only=True)
class Run:
    steps: int = 10
    fused: bool = False
    out: Path = Path("out")
    name: str | None = None
    passes: Literal[1, 2] = 1
    limit: float | int = 1.0
    batch: int | Literal["auto"] = "auto"
    optim: Optim = Optim()
    ffn: Dense | Experts = Dense()
    teacher: Optim | None = None
    sizes: tuple[int, ...] = ()
    sources: tuple[Source, ...] = ()
    held_out: tuple[Source, ...] | None = None

    def __post_init__(self) -> None:
        if self.steps > 1000 and self.name is None:
            raise ConfigError("a long run needs a name.")


finite = st.floats(allow_nan=False, allow_infinity=False)
optims = st.builds(
    Optim, lr=finite, betas=st.tuples(finite, finite), schedule=st.sampled_from(["cosine", "wsd"])
)
runs = st.builds(
    Run,
    steps=st.integers(max_value=1000),
    fused=st.booleans(),
    out=st.sampled_from([Path("a"), Path("/b/c")]),
    name=st.none() | st.text(),
    batch=st.integers() | st.just("auto"),
    optim=optims,
    ffn=st.builds(Dense, size=st.integers()) | st.builds(Experts, num_experts=st.integers()),
    teacher=st.none() | optims,
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
    sources=st.lists(st.builds(Source, path=st.text(), weight=finite), max_size=2).map(tuple),
)


def refusal(mapping: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Run, mapping, where="run.json")
    return str(caught.value)


@given(runs)
def test_a_configuration_survives_json(run: Run) -> None:
    assert from_mapping(Run, json.loads(json.dumps(to_mapping(run))), where="run.json") == run


@settings(max_examples=40)
@given(runs, runs)
def test_assigning_every_value_of_another_configuration_gives_that_configuration(
    one: Run, other: Run
) -> None:
    assignments = [f"{key}={json.dumps(value)}" for key, value in to_mapping(other).items() if key != "name"]
    assert override(one, assignments) == dataclasses.replace(other, name=one.name)


def test_numbers_become_what_the_annotation_says() -> None:
    run = from_mapping(Run, {"optim": {"lr": 1, "betas": [0, 1]}, "sizes": [1, 2]}, where="run.json")
    assert (run.optim.lr, run.optim.betas, run.sizes) == (1.0, (0.0, 1.0), (1, 2))
    assert isinstance(run.optim.lr, float)


@pytest.mark.parametrize("limit", [1, 1.0])
def test_a_value_that_is_already_of_one_type_of_a_union_stays_of_that_type(limit: float) -> None:
    assert type(from_mapping(Run, {"limit": limit}, where="run.json").limit) is type(limit)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"steps": "10"}, "steps must be int, but is '10'"),
        ({"steps": True}, "steps must be int, but is True"),
        ({"steps": 1.0}, "steps must be int, but is 1.0"),
        ({"fused": 1}, "fused must be bool, but is 1"),
        ({"optim": {"lr": "fast"}}, "optim.lr must be float, but is 'fast'"),
        ({"optim": {"lr": True}}, "optim.lr must be float, but is True"),
        ({"optim": {"betas": [0.9]}}, "optim.betas must be tuple[float, float], but is [0.9]"),
        ({"optim": {"betas": [0.9, None]}}, "optim.betas.1 must be float, but is None"),
        ({"optim": None}, "optim must be an object (lr, betas, schedule), but is None"),
        (
            {"optim": {"schedule": "cosin"}},
            "must be 'cosine' | 'wsd', but is 'cosin'. Did you mean 'cosine'?",
        ),
        ({"batch": "big"}, "batch must be int | 'auto', but is 'big'"),
        ({"passes": True}, "passes must be 1 | 2, but is True"),
        ({"name": 3}, "name must be str | null, but is 3"),
        ({"sources": [{"path": "a"}, {"weight": 2}]}, "'sources.1.path' is missing and has no default"),
        ({"held_out": [{"path": "a"}, {"pth": "b"}]}, "unknown key 'held_out.1.pth'. Did you mean 'path'?"),
        ({"held_out": "a"}, "Source, ...] | null, but is 'a'"),
        ({"ffn": {"size": 3}}, "ffn.kind is missing. Valid kinds: dense, experts."),
        (
            {"ffn": {"kind": "expert"}},
            "ffn.kind is 'expert'. Did you mean 'experts'? Valid kinds: dense, experts.",
        ),
        ({"ffn": {"kind": ["dense"]}}, "ffn.kind is ['dense']"),
        (
            {"ffn": {"kind": "dense", "num_experts": 8}},
            "unknown key 'ffn.num_experts'. Valid keys of 'ffn': kind",
        ),
        ({"stepz": 1}, "unknown key 'stepz'. Did you mean 'steps'? Valid keys: steps, fused"),
        ({"optim": {"beta": 1}}, "unknown key 'optim.beta'. Did you mean 'betas'? Valid keys of 'optim': lr"),
        (
            {"teacher": {"learning": 1}},
            "unknown key 'teacher.learning'. Valid keys of 'teacher': lr, betas, schedule.",
        ),
        ({"steps": 2000}, "a long run needs a name."),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_valid(
    mapping: dict[str, object], said: str
) -> None:
    assert refusal(mapping).startswith("run.json: ")
    assert said in refusal(mapping)


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("steps=1e2", "steps", 100),
        ("steps=1_000", "steps", 1000),
        ("fused=True", "fused", True),
        ("name=none", "name", None),
        ("name=5", "name", "5"),
        ("name=a=b, c", "name", "a=b, c"),
        ("out=/data/run.1", "out", Path("/data/run.1")),
        ("batch=auto", "batch", "auto"),
        ("batch=8", "batch", 8),
        ("sizes=1,2", "sizes", (1, 2)),
        ("sizes=[1, 2]", "sizes", (1, 2)),
        ("sizes=3", "sizes", (3,)),
        ("optim.lr=.5", "optim", Optim(lr=0.5)),
        ("optim.betas=0.8,0.9", "optim", Optim(betas=(0.8, 0.9))),
        ('optim={"lr": 2}', "optim", Optim(lr=2.0)),
        ("teacher.lr=2", "teacher", Optim(lr=2.0)),
        ('sources=[{"path": "a"}]', "sources", (Source(path="a"),)),
        ("ffn.kind=experts", "ffn", Experts()),
    ],
)
def test_text_is_read_as_the_annotation_says(assignment: str, key: str, value: object) -> None:
    run = Run(name="korean")
    assert override(run, [assignment]) == dataclasses.replace(run, **{key: value})  # type: ignore[arg-type]


def test_a_new_kind_starts_from_its_own_defaults_wherever_it_is_named() -> None:
    expected = Run(ffn=Experts(num_experts=4))
    assert override(Run(ffn=Dense(size=99)), ["ffn.num_experts=4", "ffn.kind=experts"]) == expected
    assert override(expected, ["ffn.kind=experts"]) == expected


def test_an_item_of_a_tuple_is_reached_by_its_number() -> None:
    run = Run(sources=(Source(path="a"), Source(path="b")))
    assert override(run, ["sources.1.weight=2"]).sources[1] == Source(path="b", weight=2.0)


def test_rules_across_fields_are_checked_after_the_last_assignment() -> None:
    assert override(Run(), ["steps=2000", "name=long"]).steps == 2000
    with pytest.raises(ConfigError, match="Run with steps=2000: a long run needs a name"):
        override(Run(), ["steps=2000"])


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("steps", "this is not key=value"),
        ("stepz=3", "unknown key 'stepz'. Did you mean 'steps'?"),
        (
            "optim.lrs=3",
            "unknown key 'optim.lrs'. Did you mean 'lr'? Valid keys of 'optim': lr, betas, schedule.",
        ),
        ("steps=1.5", "steps must be int, but is '1.5'"),
        ("steps.x=1", "steps must be int, which has no keys of its own"),
        ("sources.0.path=a", "unknown key 'sources.0'"),
        ('sources=[{"pth": "a"}]', "unknown key 'sources.0.pth'. Did you mean 'path'?"),
        ("ffn.kind=expert", "ffn.kind is 'expert'. Did you mean 'experts'?"),
        ("=3", "unknown key ''"),
    ],
)
def test_a_wrong_assignment_is_refused_with_the_assignment_and_what_is_valid(
    assignment: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        override(Run(), [assignment])
    assert str(caught.value).startswith(f"Run with {assignment!r}: ")
    assert said in str(caught.value)


def test_an_annotation_that_no_configuration_may_have_is_a_bug_not_an_input_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        table: dict[str, int]

    with pytest.raises(TypeError, match="annotation"):
        from_mapping(Odd, {"table": {}}, where="run.json")


# --- unions whose members are found by name ----------------------------------------------------------------


def class_of(kind: str) -> type:
    if kind not in ("optim", "source"):
        raise ConfigError(f"{kind!r} is nothing here.")
    return Optim if kind == "optim" else Source


@dataclass(frozen=True, kw_only=True)
class Open:
    part: Annotated[Any, Kinds(class_of, lambda config: type(config).__name__.lower())]


@pytest.mark.parametrize("part", [Optim(lr=0.5), Source(path="a")])
def test_a_member_that_is_found_by_name_survives_json(part: object) -> None:
    mapping = json.loads(json.dumps(to_mapping(Open(part=part))))
    assert mapping["part"]["kind"] == type(part).__name__.lower()
    assert from_mapping(Open, mapping, where="run.json") == Open(part=part)


def test_a_member_that_is_found_by_name_is_assigned_as_any_other() -> None:
    before = Open(part=Optim(lr=0.5))
    assert override(before, ["part.betas=0.1,0.2"]).part == Optim(lr=0.5, betas=(0.1, 0.2))
    assert override(before, ["part.path=a", "part.kind=source"]).part == Source(path="a")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"kind": "optimizer"}, "run.json: part.kind: 'optimizer' is nothing here."),
        ({"lr": 0.5}, "run.json: part.kind is missing. Say which kind of configuration it is."),
        ({"kind": "optim", "path": "a"}, "run.json: unknown key 'part.path'."),
        ("optim", "run.json: part must be an object with a kind, but is 'optim'."),
    ],
    ids=str,
)
def test_a_wrong_member_of_an_open_union_is_refused_with_its_place(part: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Open, {"part": part}, where="run.json")
    assert str(caught.value).startswith(message)
