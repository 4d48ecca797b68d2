"""Laws of train/stop.py: the first request is a question, the second one does what it always did."""

import signal
from threading import Thread

import pytest

from malmoi.train.stop import stop_requests


def test_the_first_ctrl_c_is_remembered_and_the_second_one_interrupts() -> None:
    with stop_requests() as is_stopping:
        assert not is_stopping()
        signal.raise_signal(signal.SIGINT)
        assert is_stopping()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_ctrl_c_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_of_the_main_thread_nothing_is_asked() -> None:
    told: list[bool] = []

    def run() -> None:
        with stop_requests() as is_stopping:
            told.append(is_stopping())

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert told == [False]
