"""The server under load: clients that ask, read and go away as they like, and what the server's event loop says to it.

bench/serve.py --clients 64 --seconds 60

The clients are another process; half of their requests are streams, some break off. By how much a sleep of 10 ms is
late is measured in the server's loop, and in a process that does nothing else: the share of the machine, the peer.
Ends with an error if a request had any other than 429, or if anything of a request is left in the server.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path
from socket import socket
from typing import Any

import httpx
import uvicorn

from malmoi.cli.loading import choose_threads
from malmoi.llm import LLM, load
from malmoi.nn.cache import PagedCache
from malmoi.server.app import ServerSettings, create_app
from malmoi.server.catalogue.catalogue import Catalogue

PAUSE = 0.01
"""Seconds that a probe of a loop sleeps."""
BREAKS_OFF = 0.3
"""The share of requests that nobody waits for."""
TARGET_LAG = 0.05


@dataclass
class Seen:
    """What the clients have seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    first_piece: list[float] = field(default_factory=list)
    num_tokens: int = 0

    def add(self, other: "Seen") -> None:
        """What others have seen is seen, too (mutates)."""
        self.statuses.update(other.statuses)
        self.first_piece += other.first_piece
        self.num_tokens += other.num_tokens


class WatchedServer(uvicorn.Server):
    """A server that notes in `lags`, in seconds, what its loop was late."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.lags: list[float] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.watching = asyncio.create_task(note_lags(self.lags))

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self.watching.cancel()
        await super().shutdown(sockets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="another model directory")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--rounds", type=int, default=4, help="between them what the idle server keeps is counted"
    )
    parser.add_argument("--max-requests", type=int, default=256)
    arguments = parser.parse_args()
    llm = load(arguments.model)
    choose_threads(llm.model)
    for pool in llm.engine.runner.pools:  # the system gives memory where it is written, so write it all
        if isinstance(pool, PagedCache):
            pool.k.zero_()
            pool.v.zero_()
    app = create_app(
        Catalogue({"default": None}, load=lambda _: llm), ServerSettings(max_requests=arguments.max_requests)
    )
    server = WatchedServer(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    run_clients(url, arguments.clients, seconds=2.0)  # caches, pools, what is made once
    server.lags.clear()
    seen, lags_elsewhere, kept = Seen(), list[float](), [left_over(llm, server)]
    for _ in range(arguments.rounds):
        more, lags = run_clients(url, arguments.clients, seconds=arguments.seconds / arguments.rounds)
        seen.add(more)
        lags_elsewhere += lags
        kept.append(left_over(llm, server))
    server.should_exit = True
    thread.join()
    print(table(seen, server.lags, lags_elsewhere, kept, seconds=arguments.seconds))
    errors = [status for status in seen.statuses if status not in ("200", "429", "broken off")]
    is_clean = all(one[name] <= kept[0][name] for one in kept for name in ("blocks", "tasks"))
    if errors or not is_clean:
        sys.exit(f"errors: {errors or 'none'}; is everything free again: {is_clean}")


def left_over(llm: LLM, server: WatchedServer) -> dict[str, float]:
    """What the server keeps once it is idle: blocks, tasks of its loop, and MB of memory."""
    assert server.loop is not None
    for _ in range(500):
        num_tasks = len(asyncio.all_tasks(server.loop))
        scheduler = llm.engine.scheduler
        if not (scheduler.running or scheduler.waiting or server.server_state.tasks):
            break
        time.sleep(0.01)
    return {"blocks": scheduler.num_blocks_in_use, "tasks": num_tasks, "memory in MB": resident_mb()}


def resident_mb() -> float:
    """The memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def run_clients(url: str, num_clients: int, *, seconds: float) -> tuple[Seen, list[float]]:
    """What so many clients saw, and the lags of a process beside them."""
    spawn = multiprocessing.get_context("spawn")
    answers, lags = spawn.Queue(), spawn.Queue()
    processes = [
        spawn.Process(target=clients, args=(url, num_clients, seconds, answers)),
        spawn.Process(target=bystander, args=(seconds, lags)),
    ]
    for process in processes:
        process.start()
    found = answers.get(), lags.get()
    for process in processes:
        process.join()
    return found


# --- the other processes ---


def clients(url: str, num_clients: int, seconds: float, answers: "Queue[Seen]") -> None:
    answers.put(asyncio.run(_clients(url, num_clients, seconds)))


def bystander(seconds: float, lags: "Queue[list[float]]") -> None:
    async def watch() -> list[float]:
        noted: list[float] = []
        task = asyncio.create_task(note_lags(noted))
        await asyncio.sleep(seconds)
        task.cancel()
        return noted

    lags.put(asyncio.run(watch()))


async def note_lags(lags: list[float]) -> None:
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(PAUSE)
        lags.append(time.perf_counter() - begin - PAUSE)


async def _clients(url: str, num_clients: int, seconds: float) -> Seen:
    seen, end = Seen(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http:

        async def client(seed: int) -> None:
            dice = random.Random(seed)
            while time.monotonic() < end:
                await one_request(http, dice, seen)

        await asyncio.gather(*map(client, range(num_clients)))
    return seen


async def one_request(http: httpx.AsyncClient, dice: random.Random, seen: Seen) -> None:
    """Ask something, and perhaps do not wait for the answer (mutates `seen`)."""
    path, asked = dice.choice(
        [
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "한글은 어떤 글자인가요?"}]}),
            ("/v1/completions", {"prompt": "말모이는 우리말을 모은 " * dice.randint(1, 20)}),
        ]
    )
    body: dict[str, Any] = {**asked, "max_tokens": dice.randint(4, 64), "n": dice.choice([1, 1, 2])}
    ask = stream if dice.random() < 0.5 else whole
    patience = dice.uniform(0.05, 1.0) if dice.random() < BREAKS_OFF else None
    try:
        async with asyncio.timeout(patience):
            status = await ask(http, path, body, seen)
    except TimeoutError:
        status = "broken off"
    except httpx.HTTPError as error:
        status = repr(error)
    seen.statuses[status] += 1
    if status == "429":
        await asyncio.sleep(0.5)


async def whole(http: httpx.AsyncClient, path: str, body: Mapping[str, Any], seen: Seen) -> str:
    response = await http.post(path, json=body)
    if response.status_code == 200:
        seen.num_tokens += response.json()["usage"]["completion_tokens"]
    return str(response.status_code)


async def stream(http: httpx.AsyncClient, path: str, body: Mapping[str, Any], seen: Seen) -> str:
    begin, has_begun = time.perf_counter(), False
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with http.stream("POST", path, json=asked) as response, aclosing(response.aiter_lines()) as lines:
        async for line in lines:
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                return str(event["error"]["message"])
            if not has_begun and event["choices"]:
                has_begun = True
                seen.first_piece.append(time.perf_counter() - begin)
            if event.get("usage"):
                seen.num_tokens += event["usage"]["completion_tokens"]
        return str(response.status_code)


# --- what it says ---


def table(
    seen: Seen,
    lags: Sequence[float],
    lags_elsewhere: Sequence[float],
    kept: Sequence[Mapping[str, float]],
    *,
    seconds: float,
) -> str:
    """The figures, in Markdown."""
    statuses = ", ".join(f"{status}: {count}" for status, count in seen.statuses.most_common())
    rows = {
        "requests": statuses,
        "tokens a second, of answers that were waited for": f"{seen.num_tokens / seconds:.0f}",
        "to the first event of a stream, ms (median, p99)": _milliseconds(seen.first_piece),
        f"lag of the server's loop, ms (median, p99; target {TARGET_LAG * 1000:.0f})": _milliseconds(lags),
        "lag of an idle process beside it, ms (median, p99)": _milliseconds(lags_elsewhere),
        **{
            f"{name}, before and after each round": ", ".join(f"{one[name]:.0f}" for one in kept)
            for name in ("blocks", "tasks", "memory in MB")
        },
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _milliseconds(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "none"
    p99 = statistics.quantiles(seconds, n=100)[98]
    return f"{statistics.median(seconds) * 1000:.1f}, {p99 * 1000:.1f}"


if __name__ == "__main__":
    main()
