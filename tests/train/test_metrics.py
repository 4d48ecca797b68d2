"""Laws of train/metrics.py: the rows are those of the steps that count, whatever was written before."""

import sys
from pathlib import Path

import pytest

from malmoi.core.errors import TrainingError
from malmoi.train.metrics import MetricsLog, read_metrics


def rows(*steps: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": 1 / step} for step in steps]


def write(path: Path, *steps: int, after: int) -> None:
    log = MetricsLog(path, step=after)
    for row in rows(*steps):
        log.write(row)
    log.close()


def test_reopened_at_a_step_the_rows_after_it_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2, 3, 4, after=0)
    write(path, 3, 4, 5, after=2)
    assert read_metrics(path) == rows(1, 2, 3, 4, 5)


def test_a_row_is_on_the_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", step=0)
    log.write(rows(1)[0])
    assert read_metrics(log.path) == rows(1)
    log.close()


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_row_that_a_kill_cut_off_is_left_out_and_then_overwritten(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2, after=0)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    path.write_bytes(whole[: -min(cut, last)])
    write(path, 2, 3, after=1)
    assert read_metrics(path) == rows(1, 2, 3)


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1, after=0)
    log = MetricsLog(path, step=1)
    log._file.close()
    log._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115 (the log closes it)
    with pytest.raises(
        TrainingError, match=r"metrics\.jsonl cannot be written.*No space left.*Free some space"
    ):
        log.write(rows(2)[0])
    log.close()
    assert read_metrics(path) == rows(1)


def test_tensorboard_gets_every_number_of_every_row_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def run(*steps: int, after: int) -> None:
        log = MetricsLog(tmp_path / "metrics.jsonl", step=after, tensorboard=True)
        for row in rows(*steps):
            log.write({**row, "bits_per_byte": None})
        log.close()

    run(1, 2, 3, after=0)
    run(3, 4, after=2)  # a resumed run: what the first one said of step 3 is forgotten
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]


def test_without_the_extra_tensorboard_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match=r"pip install 'malmoi\[tensorboard\]'"):
        MetricsLog(tmp_path / "metrics.jsonl", step=0, tensorboard=True)
