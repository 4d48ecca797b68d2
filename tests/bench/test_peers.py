"""A race's protocol, with a peer that is none; and two programs that run the same checkpoint."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from malmoi.bench.subject import random_model
from malmoi.models import save_model
from malmoi.models.llama import LlamaConfig
from malmoi.weights.default import default_model

BENCH = Path(__file__).parents[2] / "bench"
FAKE = """
import os, sys
sys.path.insert(0, {bench!r})
from peers.protocol import Peer, answer

class Fake(Peer):
    def load(self, model, precision, threads):
        print("a library that prints as it likes", flush=True)
        os.system("echo and a child of it")
        if precision != "bf16":
            raise ValueError(f"{{precision}} is not for me")
        return {{"version": "1.0"}}

    def run(self, prompts, num_tokens):
        if prompts == [[0]]:
            sys.exit("the fake has had enough")
        return [[len(prompt) + step for step in range(num_tokens)] for prompt in prompts]

    def logprobs(self, tokens):
        return [-1.5] * len(tokens)

answer(Fake())
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], object]]:
    """A way to start the fake. What belongs to `bench/` is imported within tests, from its folder."""
    monkeypatch.syspath_prepend(str(BENCH))
    from peers.protocol import Running

    command = [sys.executable, "-c", FAKE.format(bench=str(BENCH))]
    with Running(command, log=tmp_path / "logs" / "fake.log") as peer:
        yield lambda: peer


def test_answers_come_back_whatever_a_library_prints(start: Callable[[], object], tmp_path: Path) -> None:
    peer = start()
    assert peer.ask("load", model="m", precision="bf16", threads=1) == {"version": "1.0"}  # type: ignore[attr-defined]
    assert peer.ask("run", prompts=[[1, 2], [3]], num_tokens=2) == [[2, 3], [1, 2]]  # type: ignore[attr-defined]
    assert peer.ask("logprobs", tokens=[1, 2]) == [-1.5, -1.5]  # type: ignore[attr-defined]
    printed = (tmp_path / "logs" / "fake.log").read_text("utf-8")
    assert "as it likes\nand a child of it" in printed


def test_an_error_is_an_answer_and_the_peer_goes_on(start: Callable[[], object]) -> None:
    from peers.protocol import PeerError

    peer = start()
    with pytest.raises(PeerError, match="ValueError: int4 is not for me"):
        peer.ask("load", model="m", precision="int4", threads=1)  # type: ignore[attr-defined]
    assert peer.ask("logprobs", tokens=[1]) == [-1.5]  # type: ignore[attr-defined]


def test_of_a_peer_that_died_its_last_words_are_told(start: Callable[[], object]) -> None:
    from peers.protocol import PeerError

    peer = start()
    for _ in range(2):
        with pytest.raises(PeerError, match="it ended with exit code 1: the fake has had enough"):
            peer.ask("run", prompts=[[0]], num_tokens=1)  # type: ignore[attr-defined]


def test_every_peer_but_those_of_our_own_environment_says_all_its_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from peers import environments

    assert set(environments.names()) == {"llama_cpp", "malmoi", "openvino", "transformers", "vllm"}
    for name in environments.names():
        requirements = BENCH / "peers" / name / "requirements.txt"
        assert requirements.is_file() == (name not in ("malmoi", "transformers"))
        if requirements.is_file():
            lines = [
                line for line in requirements.read_text("utf-8").splitlines() if not line.startswith("#")
            ]
            assert all("==" in line for line in lines)


@pytest.mark.slow
def test_a_race_of_two_programs_on_one_checkpoint_ends_in_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from peers import environments
    from peers.field import Field, Race

    from engine import decoding, reading, serving, tables

    monkeypatch.setattr(environments, "BUILD", tmp_path)
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8,
        max_positions=128,
    )  # fmt: skip
    save_model(random_model(config, torch.bfloat16), tmp_path / "model")
    shutil.copy(default_model() / "tokenizer.json", tmp_path / "model")
    field = Field(tmp_path / "model", threads=1, num_rounds=3)
    field.race(
        "bf16",
        [
            Race(name="decode", num_prompts=1, length=8, num_tokens=4, rate=decoding, target="fast"),
            Race(name="prefill", num_prompts=1, length=64, num_tokens=1, rate=reading, target="fast"),
            Race(name="serve", num_prompts=3, length=8, num_tokens=4, rate=serving, target="fast"),
        ],
        ["malmoi", "transformers", "missing"],
    )
    ours, theirs, missing = field.entrants
    assert ours.error < 0.02
    assert theirs.error < 0.02
    assert ours.bits == pytest.approx(theirs.bits, rel=0.1)  # small matrices are padded to whole panels
    assert "No module named" in missing.missing
    assert len(field.results) == 6
    assert all(result.rate is not None and result.rate.low > 0 for result in field.results)
    assert [result.ours is None for result in field.results] == [True, False] * 3
    page = "\n".join(tables(field))
    for cell in (
        "| decode | bf16 | malmoi |",
        "| serve | bf16 | transformers |",
        "missing: it ended with exit code 1",
    ):
        assert cell in page


def test_rates_are_tokens_over_the_seconds_that_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from peers.field import Race

    from engine import decoding, reading, serving

    race = Race(name="r", num_prompts=2, length=10, num_tokens=3, rate=serving, target="fast")
    times = [[0.5, 0.75, 1.0], [1.0, 1.5, 2.0]]
    assert (reading(race, times), decoding(race, times), serving(race, times)) == (20, 4, 3)
