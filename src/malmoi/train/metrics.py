"""One JSON line a step, and the same numbers to TensorBoard if asked.

`loop.py` writes the rows, `report.py` draws them.
"""

import errno
import json
import os
from pathlib import Path
from typing import Any

from malmoi.core.errors import TrainingError
from malmoi.core.files import read_text, write_text

Row = dict[str, Any]


class MetricsLog:
    """Appends rows `{"step": ..., ...}` to a JSONL file.

    Opened at `step`, it first drops rows after that step: a run that was killed and resumed leaves the same
    rows as one that was not. Raises TrainingError if the file cannot be written.
    """

    def __init__(self, path: Path, *, step: int, tensorboard: bool = False) -> None:
        self.path = path
        kept = [row for row in read_metrics(path) if row["step"] <= step] if path.exists() else []
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept), error=TrainingError)
        self._board: Any = _open_tensorboard(path.parent, purge_step=step + 1) if tensorboard else None
        self._file = path.open("ab", buffering=0)

    def write(self, row: Row) -> None:
        """Append one row, at once; raises TrainingError on a full disk."""
        line = json.dumps(row).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise TrainingError(
                f"{self.path} cannot be written: {error}. Free some space and resume."
            ) from error
        if self._board is not None:
            for key, value in row.items():
                if key != "step" and value is not None:
                    self._board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[Row]:
    """All rows; a last line that was cut off by a kill is left out."""
    rows = []
    for line in read_text(path, error=TrainingError).splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _open_tensorboard(folder: Path, *, purge_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "tensorboard=true needs the extra: pip install 'malmoi[tensorboard]', or set tensorboard=false."
        ) from error
    return SummaryWriter(folder / "tensorboard", purge_step=purge_step)
