"""Frozen dataclasses from mappings and command-line assignments, and back: typed, and strict about keys.

A configuration is a tree of frozen, keyword-only dataclasses, each beside the code that consumes it; where
a choice has several shapes, the field is a union of dataclasses told apart by `kind: Literal[...]`. This file
gives such a tree its three doors: JSON in, JSON out, `a.b=c`. An annotation is the schema; there is no other.
Annotations understood: bool, int, float, str, Path, Literal, X | None, tuple, Mapping, dataclass, unions of these;
and `Annotated[Any, Kinds(...)]`, a union whose members are found by name.

Read next: `core/errors.py`; a real configuration, `models/llama.py`; a whole run's, `recipes/`.
"""

import contextlib
import dataclasses
import difflib
import json
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from malmoi.core.errors import ConfigError

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Kinds:
    """An open union of dataclasses, for a field annotated `Annotated[Any, Kinds(...)]`.

    Its members have no `kind` of their own: a mapping has one beside their keys, from which `class_of` finds the
    class, with a ConfigError for an unknown one, and which `kind_of` gives back.
    """

    class_of: Callable[[str], type]
    kind_of: Callable[[object], str]


def from_mapping(cls: type[C], mapping: Mapping[str, object], *, where: str) -> C:
    """Build the dataclass `cls` from JSON-like values, checking every one against its annotation.

    Keys left out take the defaults of *their own* class. `where` names the source in errors (a file, say).

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Optim:
    ...     lr: float = 1e-3
    ...     betas: tuple[float, float] = (0.9, 0.95)
    >>> from_mapping(Optim, {"betas": [0.8, 0.9]}, where="run.json")
    Optim(lr=0.001, betas=(0.8, 0.9))
    >>> from_mapping(Optim, {"beta": 0.8}, where="run.json")
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: run.json: unknown key 'beta'. Did you mean 'betas'? Valid keys: lr, betas.

    Raises:
        ConfigError: an unknown or missing key or a value of the wrong type, with its full path; also what a
            `__post_init__` refuses, prefixed with the place.
    """
    return cast(C, _build(cls, mapping, _Place(where)))


def to_mapping(config: Any) -> dict[str, object]:
    """Return `config` as JSON-able values, from which `from_mapping` builds an equal one.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Run:
    ...     out: Path = Path("runs")
    ...     sizes: tuple[int, ...] = (1, 2)
    >>> to_mapping(Run())
    {'out': 'runs', 'sizes': [1, 2]}
    """
    return {
        name: _plain(getattr(config, name), annotation) for name, annotation in _schema(type(config)).items()
    }


def override(config: C, assignments: Sequence[str]) -> C:
    """Return a copy of `config` with assignments such as `"optim.lr=1e-3"` applied, in order.

    The annotation decides how the text is read: `1e3` and `1_000` are ints where an int is expected,
    `0.9,0.95` or `[0.9,0.95]` fill a tuple, `none` empties an optional field, a JSON object fills a
    dataclass, and `sources.0.weight=2` reaches into a tuple. A new `kind` starts its dataclass from that
    class's own defaults. Checks across fields run once, after the last assignment.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Run:
    ...     steps: int = 10
    ...     name: str | None = None
    >>> override(Run(), ["steps=1e3", "name=speedrun"])
    Run(steps=1000, name='speedrun')

    Raises:
        ConfigError: an assignment without `=`, a path that does not exist, or a value of the wrong type.
    """
    cls = type(config)
    mapping: object = to_mapping(config)
    # A new kind decides which other keys exist, so it goes first, wherever it stands on the command line.
    for assignment in sorted(assignments, key=lambda a: a.partition("=")[0].split(".")[-1] != "kind"):
        keys, equals, text = assignment.partition("=")
        place = _Place(f"{cls.__name__} with {assignment!r}")
        if not equals:
            raise place.error("this is not key=value. Write dots for nested keys: optim.lr=1e-3.")
        mapping = _assigned(mapping, cls, keys.split("."), text, place)
    return cast(C, _build(cls, mapping, _Place(f"{cls.__name__} with {' '.join(assignments)}")))


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a value stands, for errors: the source and the dotted path of keys."""

    where: str
    path: str = ""

    def __truediv__(self, key: object) -> "_Place":
        return _Place(self.where, f"{self.path}.{key}" if self.path else str(key))

    def error(self, text: str) -> ConfigError:
        return ConfigError(f"{self.where}: {text}")

    def unknown(self, key: str, valid: Iterable[str]) -> ConfigError:
        of = f" of {self.path!r}" if self.path else ""
        known = ", ".join(valid)
        return self.error(f"unknown key {(self / key).path!r}.{_near(key, valid)} Valid keys{of}: {known}.")

    def mismatch(self, value: object, annotation: Any) -> ConfigError:
        name = self.path or "the configuration"
        choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
        return self.error(f"{name} must be {_describe(annotation)}, but is {value!r}.{_near(value, choices)}")


# --- values in: `annotation` is what `typing` makes of one, a class or an alias such as `tuple[int, ...]` ---


def _build(cls: type, mapping: object, place: _Place) -> object:
    if not isinstance(mapping, Mapping):
        raise place.mismatch(mapping, cls)
    schema = _schema(cls)
    for key in mapping:
        if key not in schema:
            raise place.unknown(key, schema)
    for field in dataclasses.fields(cls):
        has_default = not (field.default is field.default_factory is dataclasses.MISSING)
        if field.name in schema and field.name not in mapping and not has_default:
            raise place.error(f"{(place / field.name).path!r} is missing and has no default. Add it.")
    values = {key: _convert(value, schema[key], place / key) for key, value in mapping.items()}
    try:
        return cls(**values)
    except ConfigError as error:  # a rule across fields, told by __post_init__, which cannot know the place
        raise place.error(f"{place.path}: {error}" if place.path else str(error)) from None


def _convert(value: object, annotation: Any, place: _Place) -> object:
    """Return `value` as `annotation` wants it (lists become tuples, ints floats), or raise ConfigError."""
    origin: object = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _convert_union(value, annotation, place)
    if origin is Annotated:
        if not isinstance(value, Mapping):
            raise place.mismatch(value, annotation)
        rest = {key: item for key, item in value.items() if key != "kind"}
        return _build(_member(annotation, value, place), rest, place)
    if dataclasses.is_dataclass(annotation):
        return _build(cast(type, annotation), value, place)
    if origin is tuple:
        length = len(value) if isinstance(value, list | tuple) else -1
        if isinstance(value, list | tuple) and len(items := _item_types(annotation, length)) == length:
            return tuple(_convert(value[i], items[i], place / i) for i in range(length))
    elif origin is Mapping:
        if isinstance(value, Mapping):
            of_key, of_item = get_args(annotation)
            keys = [_from_text(key, of_key, place) if isinstance(key, str) else key for key in value]  # JSON's
            return {
                _convert(key, of_key, place / key): _convert(item, of_item, place / key)
                for key, item in zip(keys, value.values(), strict=True)
            }
    elif origin is Literal:
        # 1 == True == 1.0 in Python, but not in a configuration.
        if any(value == choice and type(value) is type(choice) for choice in get_args(annotation)):
            return value
    elif annotation is float and type(value) is int:
        return float(value)
    elif annotation is Path and isinstance(value, str | Path):
        return Path(value)
    elif annotation not in (bool, int, float, str, Path, types.NoneType):
        raise TypeError(f"{place.path}: core/config.py does not know the annotation {annotation!r}")
    elif type(value) is annotation:
        return value
    raise place.mismatch(value, annotation)


def _convert_union(value: object, annotation: Any, place: _Place) -> object:
    if isinstance(value, Mapping):
        return _build(_member(annotation, value, place), value, place)
    tuples = [member for member in get_args(annotation) if get_origin(member) is tuple]
    if isinstance(value, list) and len(tuples) == 1:
        return _convert(value, tuples[0], place)  # by itself, so that an error says which item
    # A value that is a member already must not be turned into another one: 1 stays an int in float | int.
    for member in sorted(get_args(annotation), key=lambda member: member is not type(value)):
        with contextlib.suppress(ConfigError):
            return _convert(value, member, place)
    raise place.mismatch(value, annotation)


def _member(annotation: Any, value: object, place: _Place) -> type:
    """Return the dataclass that `annotation` means for `value`: the only one, or the one of value's kind."""
    if get_origin(annotation) is Annotated:
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if not isinstance(kind, str):
            raise place.error(f"{(place / 'kind').path} is missing. Say which kind of configuration it is.")
        try:
            return _kinds(annotation).class_of(kind)
        except ConfigError as error:
            raise place.error(f"{(place / 'kind').path}: {error}") from None
    members = [cast(type, m) for m in (get_args(annotation) or [annotation]) if dataclasses.is_dataclass(m)]
    if not members:
        raise place.error(f"{place.path} must be {_describe(annotation)}, which has no keys of its own.")
    if len(members) == 1:
        return members[0]
    by_kind = {kind: member for member in members for kind in get_args(_schema(member)["kind"])}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not (isinstance(kind, str) and kind in by_kind):
        found, valid = ("is missing" if kind is None else f"is {kind!r}"), ", ".join(by_kind)
        raise place.error(f"{(place / 'kind').path} {found}.{_near(kind, by_kind)} Valid kinds: {valid}.")
    return by_kind[kind]


# --- text in -----------------------------------------------------------------------------------------------


def _assigned(value: object, annotation: Any, keys: Sequence[str], text: str, place: _Place) -> object:
    """Return the JSON-able `value` with what `text` says at `keys`; nothing is mutated."""
    if not keys:
        return _from_text(text, annotation, place)
    key, rest = keys[0], keys[1:]
    if isinstance(value, list):
        if not (key.isdecimal() and int(key) < len(value)):
            raise place.unknown(key, [str(i) for i in range(len(value))])
        index = int(key)
        item = _assigned(value[index], _item_types(annotation, len(value))[index], rest, text, place / key)
        return [*value[:index], item, *value[index + 1 :]]
    old = value if isinstance(value, Mapping) else {}
    if key == "kind" and not rest and old.get("kind") != text:
        old = {"kind": text}  # another shape: the old one's values mean nothing in it
    is_open = get_origin(annotation) is Annotated
    schema = ({"kind": str} if is_open else {}) | _schema(_member(annotation, old, place))
    if key not in schema:
        raise place.unknown(key, schema)
    return {**old, key: _assigned(old.get(key), schema[key], rest, text, place / key)}


def _from_text(text: str, annotation: Any, place: _Place) -> object:
    """Return the first JSON-able reading of `text` that `annotation` accepts."""
    errors = []
    for reading in _readings(text):
        try:
            _convert(reading, annotation, place)
            return reading
        except ConfigError as error:
            errors.append(error)
    # The first reading of a JSON object fails for a reason inside it, the last because it is text.
    raise errors[0] if text.startswith(("{", "[")) else errors[-1]


def _readings(text: str) -> Iterator[object]:
    words: Mapping[str, object] = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        yield words[text.lower()]
    for json_text in (text, f"[{text}]"):
        with contextlib.suppress(ValueError):
            yield json.loads(json_text)
    with contextlib.suppress(ValueError):
        number = float(text)  # also .5, 1_000 and, where an int is expected, 1e3
        yield int(number) if math.isfinite(number) and number.is_integer() else number
    yield [part.strip() for part in text.split(",")]
    yield text


# --- shared ------------------------------------------------------------------------------------------------


def _schema(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _kinds(annotation: Any) -> Kinds:
    return cast(Kinds, get_args(annotation)[1])


def _plain(value: object, annotation: Any) -> object:
    if dataclasses.is_dataclass(value):
        is_open = get_origin(annotation) is Annotated
        return ({"kind": _kinds(annotation).kind_of(value)} if is_open else {}) | to_mapping(value)
    if isinstance(value, tuple):
        return [_plain(item, None) for item in value]
    return str(value) if isinstance(value, Path) else value


def _item_types(annotation: Any, length: int) -> Sequence[Any]:
    """Return the annotation of each item of a tuple annotation (perhaps inside a union) of `length` items."""
    if get_origin(annotation) is not tuple:
        annotation = next(member for member in get_args(annotation) if get_origin(member) is tuple)
    items = get_args(annotation)
    return items[:1] * length if items[-1] is Ellipsis else items


def _near(key: object, names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(str(key), names, n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _describe(annotation: Any) -> str:
    origin: object = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return " | ".join(_describe(member) for member in get_args(annotation))
    if origin is Literal:
        return " | ".join(repr(choice) for choice in get_args(annotation))
    if annotation is types.NoneType:
        return "null"
    if origin is Annotated:
        return "an object with a kind"
    if dataclasses.is_dataclass(annotation):
        return f"an object ({', '.join(_schema(cast(type, annotation)))})"
    return str(annotation) if origin else str(annotation.__name__)
