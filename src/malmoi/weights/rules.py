"""Weight rules: a small invertible algebra between a checkpoint's tensors and ours.

A family says each correspondence once; import and export are the two directions of that one sentence, so they
cannot disagree. Rules invert (`~`) and compose (`>>`); `Rules` applies a list of them to all the tensors of a
checkpoint, each of which exactly one rule must read. Importing gives views; what exporting puts together (Split)
is copied.

Place in the flow: `files.read_tensors` -> `Rules.import_` -> a model's state dict -> `Rules.export` ->
`files.write_tensors`. Read next: `patterns.py`, then a family's own rules, `models/gpt2.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from malmoi.core.errors import CheckpointError
from malmoi.weights.patterns import fill, match

Change = Callable[[Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Rule:
    """The tensors that `theirs` names are, after an invertible change, those that `ours` names.

    In a pattern `{}` stands for one segment of a name (no dot in it), the same on both sides and in the same
    order.

    `~rule` is the inverse. `first >> second` is one after the other; the names between them only have to
    agree, nothing in a checkpoint has them.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    import_: Change = field(repr=False)
    export: Change = field(repr=False)

    def __post_init__(self) -> None:
        counts = {pattern.count("{}") for pattern in self.theirs + self.ours}
        assert len(counts) == 1, f"{self}: every pattern needs the same number of {{}}"

    def __invert__(self) -> "Rule":
        return Rule(self.ours, self.theirs, self.export, self.import_)

    def __rshift__(self, then: "Rule") -> "Rule":
        assert self.ours == then.theirs, f"{self} gives {self.ours}, but {then} takes {then.theirs}"
        return Rule(
            self.theirs,
            then.ours,
            lambda values: then.import_(self.import_(values)),
            lambda values: self.export(then.export(values)),
        )


class Rename(Rule):
    """The same tensor under another name.

    >>> rules = Rules([Rename("layers.{}.mlp.{}.weight", "blocks.{}.ffn.{}.weight")])
    >>> list(rules.import_({"layers.7.mlp.up.weight": torch.zeros(2)}))
    ['blocks.7.ffn.up.weight']
    """

    def __init__(self, theirs: str, ours: str) -> None:
        super().__init__((theirs,), (ours,), _same, _same)


def renames(names: Mapping[str, str]) -> list[Rule]:
    """A `Rename` for each of theirs: ours.

    >>> renames({"wte.weight": "embedding.weight"})
    [Rename(theirs=('wte.weight',), ours=('embedding.weight',))]
    """
    return [Rename(theirs, ours) for theirs, ours in names.items()]


class Transpose(Rule):
    """The same matrix with its last two dimensions swapped: GPT-2 stores [in, out], `Linear` has [out, in].

    `ours` left out is the same name; then the rule is there to be composed with another.
    """

    def __init__(self, theirs: str, ours: str | None = None) -> None:
        super().__init__((theirs,), (ours or theirs,), _transpose, _transpose)


class Reshape(Rule):
    """The same numbers in the same order under other dimensions: `theirs_shape` there, `ours_shape` here.

    A convolution whose steps are as wide as its window is a matrix over what it sees, two patches of 3 x 4 x 4:

    >>> rules = Rules([Reshape("conv.weight", "patches.weight", theirs_shape=(2, 3, 4, 4), ours_shape=(2, 48))])
    >>> rules.import_({"conv.weight": torch.ones(2, 3, 4, 4)})["patches.weight"].shape
    torch.Size([2, 48])
    """

    def __init__(
        self, theirs: str, ours: str, *, theirs_shape: Sequence[int], ours_shape: Sequence[int]
    ) -> None:
        there, here = list(theirs_shape), list(ours_shape)
        super().__init__((theirs,), (ours,), _reshape(there, here), _reshape(here, there))


class Split(Rule):
    """One of their tensors holds several of ours, side by side along `dim`, with the given `sizes`.

    GPT-2's queries, keys and values (width 2, so 3 x 2 outputs, stored [in, out]), transposed and then split:

    >>> fused, ours = "h.{}.attn.c_attn.weight", ("blocks.{}.q", "blocks.{}.k", "blocks.{}.v")
    >>> rules = Rules([Transpose(fused) >> Split(fused, ours, dim=0, sizes=(2, 2, 2))])
    >>> imported = rules.import_({"h.0.attn.c_attn.weight": torch.arange(12).reshape(2, 6)})
    >>> imported["blocks.0.k"]
    tensor([[2, 8],
            [3, 9]])
    >>> rules.export(imported)["h.0.attn.c_attn.weight"].shape
    torch.Size([2, 6])
    """

    def __init__(self, theirs: str, ours: Sequence[str], *, dim: int, sizes: Sequence[int]) -> None:
        assert len(ours) == len(sizes), f"{len(ours)} patterns, but {len(sizes)} sizes"
        split, concat = _split_and_concat(dim, list(sizes))
        super().__init__((theirs,), tuple(ours), split, concat)


class Rules:
    """All the rules of a family, applied to all the tensors of a checkpoint.

    >>> rules = Rules([Rename("wte.weight", "embedding.weight"), Transpose("fc.weight", "up.weight")])
    >>> theirs = {"wte.weight": torch.ones(5, 2), "fc.weight": torch.ones(2, 8)}
    >>> {name: tuple(tensor.shape) for name, tensor in rules.import_(theirs).items()}
    {'embedding.weight': (5, 2), 'up.weight': (8, 2)}
    >>> rules.import_({"wpe.weight": torch.ones(3, 2)})
    Traceback (most recent call last):
        ...
    malmoi.core.errors.CheckpointError: no rule reads the tensor 'wpe.weight'. Loading without it ...
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)

    def under(self, theirs: str, ours: str) -> "Rules":
        """The same rules for a model inside another one: both sides with a prefix.

        >>> decoder = Rules([Rename("model.norm.weight", "norm.weight")])
        >>> decoder.under("language_model.", "").rules
        (Rule(theirs=('language_model.model.norm.weight',), ours=('norm.weight',)),)
        """
        return Rules(
            Rule(
                tuple(theirs + pattern for pattern in rule.theirs),
                tuple(ours + pattern for pattern in rule.ours),
                rule.import_,
                rule.export,
            )
            for rule in self.rules
        )

    def __add__(self, other: "Rules") -> "Rules":
        """The rules of both: a model of two parts."""
        return Rules(self.rules + other.rules)

    def import_(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `tensors`, a checkpoint's, with our names and layout; `export` undoes it bit for bit.

        Mutates nothing. A rule that finds none of its tensors is silent: whether a model got all it needs is
        for the model to say.

        Raises:
            CheckpointError: a tensor that no rule reads, or more than one; a partner that is missing; shapes
                that do not fit the rule; each by name.
        """
        return _apply(self.rules, tensors)

    def export(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `tensors`, a model's, with the checkpoint's names and layout. Raises as `import_` does."""
        return _apply([~rule for rule in self.rules], tensors)


# --- applying rules ----------------------------------------------------------------------------------------


def _apply(rules: Sequence[Rule], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for rule, segments in _groups(rules, tensors):
        names = [fill(pattern, segments) for pattern in rule.theirs]
        _require_partners(names, tensors)
        try:
            changed = rule.import_([tensors[name] for name in names])
        except (RuntimeError, IndexError, ValueError) as error:  # from torch or from below: shapes, dtypes
            shapes = ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)
            raise CheckpointError(
                f"cannot turn {shapes} into {', '.join(rule.ours)}: {error}. "
                "The tensors and config.json disagree: check that they are of the same checkpoint."
            ) from error
        for pattern, tensor in zip(rule.ours, changed, strict=True):
            name = fill(pattern, segments)
            if name in result:
                raise CheckpointError(f"two tensors would both become {name!r}. Remove one of them.")
            result[name] = tensor
    return result


def _groups(rules: Sequence[Rule], names: Iterable[str]) -> list[tuple[Rule, tuple[str, ...]]]:
    """Sort the names into what a rule takes together: the same rule, the same segments for its `{}`."""
    groups: dict[tuple[int, tuple[str, ...]], None] = {}  # a set that keeps the order of the names
    unread = []
    for name in names:
        readers = list(_readers(rules, name))
        if len(readers) > 1:
            both = " and ".join(", ".join(rules[index].theirs) for index, _ in readers)
            raise CheckpointError(
                f"more than one rule reads the tensor {name!r}: {both}. Narrow one of them."
            )
        if readers:
            groups[readers[0]] = None
        else:
            unread.append(name)
    if unread:
        others = f", nor {len(unread) - 1} more" if len(unread) > 1 else ""
        raise CheckpointError(
            f"no rule reads the tensor {unread[0]!r}{others}. Loading without it would change the answers: "
            "check that config.json names the right model_type."
        )
    return [(rules[index], segments) for index, segments in groups]


def _readers(rules: Sequence[Rule], name: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    for index, rule in enumerate(rules):
        for pattern in rule.theirs:
            segments = match(pattern, name)
            if segments is not None:
                yield index, segments


def _require_partners(names: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
    missing = [name for name in names if name not in tensors]
    if missing:
        present = next(name for name in names if name in tensors)
        raise CheckpointError(
            f"missing {', '.join(map(repr, missing))}, without which {present!r} is of no use. "
            "The checkpoint is incomplete: fetch or save it again."
        )


# --- changes of tensors, each beside its inverse -----------------------------------------------------------


def _same(values: Sequence[Tensor]) -> Sequence[Tensor]:
    return values


def _transpose(values: Sequence[Tensor]) -> Sequence[Tensor]:
    return [tensor.mT for tensor in values]


def _reshape(before: list[int], after: list[int]) -> Change:
    def change(values: Sequence[Tensor]) -> Sequence[Tensor]:
        (one,) = values
        if list(one.shape) != before:
            raise ValueError(f"its shape is {list(one.shape)}, not {before}")
        return [one.reshape(after)]

    return change


def _split_and_concat(dim: int, sizes: list[int]) -> tuple[Change, Change]:
    def split(values: Sequence[Tensor]) -> Sequence[Tensor]:
        (one,) = values
        return torch.split(one, sizes, dim)

    def concat(values: Sequence[Tensor]) -> Sequence[Tensor]:
        found = [tensor.shape[dim] for tensor in values]
        if found != sizes:
            raise ValueError(f"their sizes along dimension {dim} are {found}, not {sizes}")
        return [torch.cat(_of_one_dtype(values), dim)]

    return split, concat


def _of_one_dtype(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return `tensors`, unless torch would promote some of them: the way back would not be exact."""
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1:
        raise ValueError(f"they have several dtypes: {', '.join(sorted(map(str, dtypes)))}")
    return list(tensors)
