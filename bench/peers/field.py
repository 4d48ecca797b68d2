"""Everybody who races on one checkpoint: started, given the same work in turn, and compared within rounds.

A round is: the machine's memory and matrix products, then each program once. Read next: `bench/engine.py`, which says
what the work is and writes down what came out.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from peers import environments
from peers.protocol import PeerError, Running

import malmoi
from malmoi.bench.machine import this_machine
from malmoi.bench.roofline import MatrixProducts, ReadStream, Roofline
from malmoi.bench.rounds import Spread, rounds
from malmoi.bench.work import Work, layer_shapes, step_work, weight_bytes_read
from malmoi.budget import on_paper
from malmoi.models import load_config, require_kind
from malmoi.nn.stack import Decoder

OURS = "malmoi"
Times = list[list[float]]  # of each sequence, seconds from the start to each of its tokens


@dataclass(frozen=True, kw_only=True)
class Race:
    """Work that everybody does: `num_prompts` at once, each of `length` tokens and followed by `num_tokens`.

    `rate` makes tokens a second of the times. `target` is what we want, beside the best peer and the limit.
    """

    name: str
    num_prompts: int
    length: int
    num_tokens: int
    rate: Callable[["Race", Times], float]
    target: str

    def work(self, model: Decoder) -> tuple[Work, int] | None:
        """What a prompt, or a step of decoding, asks of the machine, and its tokens; None for a mixture of both."""
        if self.num_tokens == 1:
            return step_work(model, model, batch=1, length=self.length, num_new=self.length), self.length
        if self.num_prompts == 1:
            middle = self.length + self.num_tokens // 2
            return step_work(model, model, batch=1, length=middle, num_new=1), 1
        return None


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A program in a precision: `bits` a weight, `error` of its logits as a part of theirs. Or why it is missing.

    The error is a mean over prompts: from one to the next it differs by 8 % (the standard deviation).
    """

    precision: str
    name: str
    version: str = ""
    bits: float = math.nan
    error: float = math.nan
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a program did in a race, in tokens a second.

    `ours` is our rate of the peer's in the same rounds, None for ourselves; `share` what was reached of the roofline;
    `first_token` the seconds until the first token that 99 % of the sequences did not exceed. Or why it `failed`.
    """

    race: Race
    precision: str
    name: str
    rate: Spread | None = None
    ours: Spread | None = None
    share: Spread | None = None
    first_token: float = math.nan
    failed: str = ""


@dataclass
class Lane:
    """A program in one race: what it did so far."""

    peer: Running
    bits: float
    first_tokens: list[float] = field(default_factory=list)
    failed: str = ""


class Field:
    """All programs on one checkpoint, in one precision after the other. `entrants`, `results` and `weather` fill up."""

    def __init__(self, model: Path, *, threads: int, num_rounds: int) -> None:
        self.model, self.threads, self.num_rounds = model, threads, num_rounds
        twin = on_paper(load_config(model), torch.bfloat16)
        self.twin = require_kind(twin, Decoder, for_what="a race")
        self.num_parameters = sum(parameter.numel() for parameter in self.twin.parameters())
        self.machine = this_machine()
        self.stream = ReadStream(self.machine.last_cache)
        self.products = MatrixProducts(layer_shapes(self.twin), rows=512, dtype=torch.bfloat16)
        self.random = random.Random(0)
        self.prompts = [self.draw(64) for _ in range(16)]  # after which the logits of all are compared
        exact = malmoi.load_model(model, dtype=torch.float32)
        with torch.inference_mode():
            self.logprobs = exact(torch.tensor(self.prompts)).logits[:, -1].log_softmax(-1)
        self.entrants: list[Entrant] = []
        self.results: list[Result] = []
        self.weather: list[dict[str, float]] = []

    def draw(self, length: int) -> list[int]:
        """A prompt that nobody has seen."""
        return [self.random.randrange(self.twin.vocab_size) for _ in range(length)]

    def race(self, precision: str, races: Sequence[Race], names: Sequence[str]) -> None:
        """Start everybody who has this precision, and run `races`."""
        with ExitStack() as stack:
            running: dict[str, tuple[Running, Entrant]] = {}
            for name in names:
                print(f"{precision}: starting {name}", flush=True)
                try:
                    peer, entrant = self.start(precision, name, stack)
                    running[name] = (peer, entrant)
                except PeerError as reason:
                    entrant = Entrant(precision=precision, name=name, missing=str(reason))
                    print(f"{name} is missing: {reason}", flush=True)
                self.entrants.append(entrant)
            for race in races if running else ():
                self.results += self.run(precision, race, running)

    def start(self, precision: str, name: str, stack: ExitStack) -> tuple[Running, Entrant]:
        """A process that has loaded the checkpoint, and what it says of itself. Raises PeerError."""
        log = environments.BUILD / f"{name}-{precision}.log"
        peer = stack.enter_context(Running(environments.command(name), log=log))
        facts = peer.ask("load", model=str(self.model), precision=precision, threads=self.threads)
        logprobs = torch.tensor([peer.ask("logprobs", tokens=prompt) for prompt in self.prompts])
        return peer, Entrant(
            precision=precision,
            name=name,
            version=facts["version"],
            bits=8 * facts["weight_bytes"] / self.num_parameters,
            error=((logprobs - self.logprobs).std(-1) / self.logprobs.std(-1)).mean().item(),
        )

    def run(
        self, precision: str, race: Race, running: dict[str, tuple[Running, Entrant]]
    ) -> Iterator[Result]:
        """One race in all rounds; who fails is out of it."""
        lanes = {name: Lane(peer, entrant.bits) for name, (peer, entrant) in running.items()}
        short = replace(race, num_tokens=min(2, race.num_tokens))
        for lane in lanes.values():
            self.turn(short, lane)  # not counted: memory is touched and kernels are chosen
            lane.first_tokens.clear()
        turns: dict[str, Callable[[], float]] = {"memory": self.stream, "arithmetic": self.products}
        turns |= {name: partial(self.turn, race, lane) for name, lane in lanes.items()}
        measured = []
        for each in rounds(turns, seconds=0, fewest=self.num_rounds):
            measured.append(each)
            said = ", ".join(f"{name} {each[name]:,.1f}" for name in lanes)
            print(f"{precision}, {race.name}, {len(measured)}/{self.num_rounds}: {said} tokens/s", flush=True)
        self.weather += measured
        for name, lane in lanes.items():
            if lane.failed:
                yield Result(race=race, precision=precision, name=name, failed=lane.failed)
                continue
            is_rival = name != OURS and OURS in lanes and not lanes[OURS].failed
            yield Result(
                race=race,
                precision=precision,
                name=name,
                rate=Spread.of(each[name] for each in measured),
                ours=Spread.of(each[OURS] / each[name] for each in measured) if is_rival else None,
                share=self.share(race, name, lane.bits, measured),
                first_token=sorted(lane.first_tokens)[math.ceil(0.99 * len(lane.first_tokens)) - 1],
            )

    def turn(self, race: Race, lane: Lane) -> float:
        """Tokens a second of a program, or no number where it has failed (mutates its lane)."""
        if lane.failed:
            return math.nan
        prompts = [self.draw(race.length) for _ in range(race.num_prompts)]
        try:
            times: Times = lane.peer.ask("run", prompts=prompts, num_tokens=race.num_tokens)
        except PeerError as reason:
            lane.failed = str(reason)
            return math.nan
        lane.first_tokens += [each[0] for each in times]
        return race.rate(race, times)

    def share(
        self, race: Race, name: str, bits: float, measured: Sequence[dict[str, float]]
    ) -> Spread | None:
        """What was reached of the roofline of the same rounds, with a program's own bytes of weights.

        None for a race that is no single kind of step.
        """
        known = race.work(self.twin)
        if known is None:
            return None
        work, num_tokens = known
        saved = weight_bytes_read(self.twin, num_tokens=num_tokens) * (1 - bits / 16)
        work = replace(work, bytes=round(work.bytes - saved))
        limits = (
            num_tokens
            / work.least_seconds(Roofline(bandwidth=each["memory"], matrix_rate=each["arithmetic"]))
            for each in measured
        )
        return Spread.of(each[name] / limit for each, limit in zip(measured, limits, strict=True))
