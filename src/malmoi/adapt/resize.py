"""A model for another tokenizer: old tokens keep their rows, new ones get rows made of the old.

    model, its tokenizer, an expanded one -> RESIZE -> model, equal on old tokens -> training that goes on

Place in the flow: after `text.vocabulary.expand`. Read next: `origins.py`, what a token was before; `rows.py`, where
rows go; `directory.py`, the files.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.adapt.origins import origins, require_superset
from malmoi.adapt.rows import vocabulary_of, with_rows
from malmoi.core.errors import ConfigError
from malmoi.nn.stack import Model
from malmoi.text.tokenizer import Tokenizer

INITS = ("subword-mean", "mean", "noise", "align")
"""How a new row begins, as `resize` says."""


@dataclass(frozen=True, kw_only=True)
class Resized:
    """A model with other rows, and how many tokens kept theirs, are a mean of pieces, or have no piece to go by.

    `num_spare` of the rows beyond the old tokenizer, padding before, now belong to tokens. `new_ids` says where an old
    token went.
    """

    model: Model
    num_kept: int
    num_from_pieces: int
    num_from_all: int
    num_spare: int
    new_ids: dict[int, int]


def resize(
    model: Model, old: Tokenizer, new: Tokenizer, *, init: str = "subword-mean", seed: int = 0
) -> Resized:
    """Give `model`, whose tokenizer is `old`, a row for each token of `new`, in embedding and head alike.

    `init` is what the row of a token that `old` does not have begins as:

        subword-mean  the mean of the rows of the old tokens that spell it (EEVE, arXiv:2402.14714, starts its
                      embedding so; here the head too)
        mean          the mean of all old rows: no new token is likelier than the old ones are on average, where a
                      random row may take nearly all the probability (Hewitt 2021, "Initializing New Word Embeddings
                      for Pretrained Language Models", an article without a number)
        noise         drawn around that mean with each dimension's own deviation, as if it were an old row. Our
                      difference from that article: the dimensions are drawn apart, without their covariance
        align         subword-mean, where `new` is no expansion of `old`: tokens are found again by what they stand
                      for, so ids may change (Gee et al. 2022, "Fast Vocabulary Transfer", arXiv:2402.09977)

    Where the model has more rows than `old` has tokens, as padding, the first of them are used before it grows, and
    the rest stay. A token that nothing spells, a new special one, begins as the mean of all. Logits of old tokens are
    as before on texts of old tokens. `model` is not changed; what did not change is shared with it.

    Raises:
        ConfigError: `init` is not known, the model has fewer rows than `old` has ids, or as `with_rows` says.
        TokenizerError: an old id is another token in `new`, and `init` is not "align".

    >>> from malmoi.testing.models import tiny_llama
    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> from malmoi.text.vocabulary.expand import expand
    >>> old = ByteTokenizer()
    >>> new = expand(old, ["나는 학교에 간다."] * 3, num_added=4)
    >>> resized = resize(tiny_llama(), old, new)
    >>> resized.model.config.vocab_size, resized.num_kept, resized.num_from_pieces
    (263, 259, 4)
    """
    if init not in INITS:
        raise ConfigError(f"init={init!r} is not known. Use {', '.join(INITS)}.")
    num_rows = vocabulary_of(model.config)
    if num_rows < old.vocab_size:
        raise ConfigError(
            f"the model has {num_rows} rows, and its tokenizer ids up to {old.vocab_size - 1}. They do not belong "
            "together: name the tokenizer that the model was trained with."
        )
    sources: list[tuple[int, ...]] = origins(old, new)
    if init == "align":
        size = len(sources)
    else:
        require_superset(old, new)
        sources[: old.vocab_size] = [(i,) for i in range(old.vocab_size)]  # by id, gaps and all
        size = max(num_rows, len(sources))
        sources += [(i,) for i in range(len(sources), size)]  # padding that is left
        if init != "subword-mean":
            sources[old.vocab_size : new.vocab_size] = [()] * (new.vocab_size - old.vocab_size)
    generator = torch.Generator(model.device).manual_seed(seed) if init == "noise" else None

    def rows(weight: Float[Tensor, "V *rest"]) -> Float[Tensor, "new *rest"]:
        return _rows(weight, weight[: old.vocab_size], sources, generator)

    new_ids = {source[0]: i for i, source in reversed([*enumerate(sources)]) if len(source) == 1}
    num_tokens = [min(len(source), 2) for source in sources[: new.vocab_size]]
    num_by_origin = Counter(num_tokens)
    return Resized(
        model=with_rows(model, size, rows, new_id=new_ids.get),
        num_kept=num_by_origin[1],
        num_from_pieces=num_by_origin[2],
        num_from_all=num_by_origin[0],
        num_spare=max(0, min(num_rows, new.vocab_size) - old.vocab_size),
        new_ids=new_ids,
    )


def _rows(
    weight: Float[Tensor, "V *rest"],
    trained: Float[Tensor, "old *rest"],
    sources: Sequence[tuple[int, ...]],
    generator: torch.Generator | None,
) -> Float[Tensor, "new *rest"]:
    """A row of `weight`, the mean of several, or of all `trained` ones, with noise if there is a `generator`."""
    mean = trained.mean(0, dtype=torch.float32)
    deviation = None if generator is None else trained.std(0).float()
    rows = weight.new_empty(len(sources), *weight.shape[1:])
    kept = [i for i, source in enumerate(sources) if len(source) == 1]
    rows[kept] = weight[[sources[i][0] for i in kept]]
    for i, source in enumerate(sources):
        if len(source) > 1:
            rows[i] = weight[list(source)].mean(0, dtype=torch.float32)
        elif not source:
            rows[i] = mean if deviation is None else torch.normal(mean, deviation, generator=generator)
    return rows
