"""Is what lies in `out` this run? Then it goes on where its newest checkpoint stands.

`out/run.json` says which run the checkpoints beside it are of. Read next: `checkpoint.py`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from malmoi.core.config import to_mapping
from malmoi.core.errors import ConfigError, TrainingError
from malmoi.core.files import read_json, write_json
from malmoi.train.checkpoint import latest_checkpoint
from malmoi.train.config import RunConfig

# What a resumed run may change: how long, how fast, how often; not what was computed so far, nor from what data.
_CHANGEABLE = (
    "out", "total_tokens", "schedule.", "eval_", "checkpoint_every", "keep_checkpoints", "tensorboard", "optim.lr",
    "optim.embedding_lr", "optim.betas", "optim.momentum", "optim.weight_decay", "optim.clip_norm",
)  # fmt: skip


def claim_out(config: RunConfig) -> Path | None:
    """Write `run.json` into `config.out` and return the checkpoint to resume from, None for a new run.

    Raises ConfigError, naming the key, if the checkpoints there are of a run with other data or another model.

    >>> claim_out(run)                                                           # doctest: +SKIP
    PosixPath('out/pretrain/checkpoints/step-00000200')
    >>> claim_out(replace(run, seed=1))                                          # doctest: +SKIP
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: out/pretrain holds a run with seed=0, but now seed=1. Give this run ...
    """
    out = Path(config.out)
    now = to_mapping(config)
    checkpoint = latest_checkpoint(out / "checkpoints")
    if checkpoint is not None:
        before, after = (dict(_leaves(run)) for run in (read_json(out / "run.json", error=ConfigError), now))
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key) and not key.startswith(_CHANGEABLE):
                raise ConfigError(
                    f"{out} holds a run with {key}={before.get(key)!r}, but now {key}={after.get(key)!r}. "
                    "Give this run another `out`, or remove that directory."
                )
    write_json(out / "run.json", now, error=TrainingError)
    return checkpoint


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a nested mapping under its dotted key.

    >>> dict(_leaves({"optim": {"lr": 1e-3}, "sources": [{"path": "a"}]}))
    {'optim.lr': 0.001, 'sources.0.path': 'a'}
    """
    if isinstance(value, list):
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, item in value.items():
        yield from _leaves(item, f"{key}.{name}" if key else str(name))
