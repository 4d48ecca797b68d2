"""How an encoder's states become one vector a text, as sentence-transformers directories say it.

    modules.json            the steps: a Transformer, a Pooling, perhaps a Normalize
    1_Pooling/config.json   the first token's state, or the mean
    sentence_bert_config.json   how long a text may be

Written by training, read by `text_encoder.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import CheckpointError
from malmoi.core.files import read_json, read_text, write_json, write_text
from malmoi.nn.heads import first_of_each, mean_of_each

_PREFIX = "pooling_mode_"
_MODES = {"cls_token": "first", "mean_tokens": "mean"}
_STEPS = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """`kind` of a vector, whether it has the length 1, and how many tokens a text may have (None: the model's)."""

    kind: Literal["first", "mean"] = "mean"
    is_normalised: bool = False
    max_tokens: int | None = None

    def __call__(self, hidden: Float[Tensor, "1 T D"], lengths: Sequence[int]) -> Float[Tensor, "B D"]:
        """One vector for each of the texts that lie end to end, in fp32.

        >>> Pooling(is_normalised=True)(torch.tensor([[[3.0, 4.0], [6.0, 8.0]]]), [2])
        tensor([[0.6000, 0.8000]])
        """
        vectors = (first_of_each if self.kind == "first" else mean_of_each)(hidden.float(), lengths)
        return vectors / vectors.norm(dim=-1, keepdim=True) if self.is_normalised else vectors


def read_pooling(directory: Path) -> Pooling:
    """What the files in `directory` say; the mean where there are none.

    Raises CheckpointError for a step or a mode that would give other vectors than ours.
    """
    file = directory / "modules.json"
    if not file.is_file():
        return Pooling()
    try:
        steps = json.loads(read_text(file, error=CheckpointError))
        names = [step["type"].rpartition(".")[2] for step in steps]
        path = str(steps[1]["path"]) if len(steps) > 1 else ""
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise CheckpointError(f"{file} is not a list of steps: {problem}. Fetch it again.") from None
    if names not in (list(_STEPS[:2]), list(_STEPS)):
        raise CheckpointError(
            f"{file}: the steps {names} are not {', '.join(_STEPS[:2])} and perhaps {_STEPS[2]}. "
            "Leaving one out would give other vectors."
        )
    pooling = directory / path / "config.json"
    modes = read_json(pooling, error=CheckpointError)
    chosen = [key.removeprefix(_PREFIX) for key, value in modes.items() if key.startswith(_PREFIX) and value]
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise CheckpointError(
            f"{pooling}: the modes {chosen} are not one of {', '.join(_MODES)}, which is what Malmoi computes."
        )
    return Pooling(
        kind="first" if _MODES[chosen[0]] == "first" else "mean",
        is_normalised=len(names) == len(_STEPS),
        max_tokens=_max_tokens(directory / "sentence_bert_config.json"),
    )


def write_pooling(directory: Path, pooling: Pooling, *, hidden_size: int) -> None:
    """`read_pooling` backwards; `hidden_size` is the width of a vector. Raises CheckpointError on a full disk."""
    paths = ("", "1_Pooling", "2_Normalize")
    steps = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (name, path) in enumerate(zip(_STEPS, paths, strict=True))
    ]
    modes = {_PREFIX + mode: kind == pooling.kind for mode, kind in _MODES.items()}
    config = {"word_embedding_dimension": hidden_size, **modes}
    length = {"max_seq_length": pooling.max_tokens, "do_lower_case": False}
    write_json(directory / paths[1] / "config.json", config, error=CheckpointError)
    write_json(directory / "sentence_bert_config.json", length, error=CheckpointError)
    kept = steps if pooling.is_normalised else steps[:2]
    write_text(directory / "modules.json", json.dumps(kept, indent=2) + "\n", error=CheckpointError)


def _max_tokens(file: Path) -> int | None:
    if not file.is_file():
        return None
    config = read_json(file, error=CheckpointError)
    if config.get("do_lower_case"):
        raise CheckpointError(f"{file}: do_lower_case=true, but Malmoi leaves case to tokenizer.json.")
    length = config.get("max_seq_length")
    return None if length is None else int(length)
