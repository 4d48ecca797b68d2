"""What the engine is measured by without a peer: prefixes, windows, its own share of a step, the shipped model."""

import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from startup import FIRST_TOKEN, IMPORT_TORCH, seconds_until_it_speaks

import malmoi
from malmoi.bench.report import measure
from malmoi.bench.rounds import Spread, rounds
from malmoi.bench.subject import random_model
from malmoi.bench.workloads import Decode, Prompts
from malmoi.engine.engine import Engine
from malmoi.models import require_kind
from malmoi.models.mistral import MistralConfig
from malmoi.nn.kernels.recording import Recording
from malmoi.nn.packed import prepack
from malmoi.nn.stack import Decoder

WINDOW, NEAR, FAR = 1024, 4096, 32_768
LAYERS_WITH_A_WINDOW = 4  # as far as the far position is, more would take minutes to come there


def own_targets(model: Path, *, num_rounds: int) -> Iterator[str]:
    """A table in Markdown: what is measured, what came out, what was wanted."""
    yield from ("| what | measured | target |", "|---|---:|---:|")
    loaded = require_kind(malmoi.load(model, dtype="bf16").model, Decoder, for_what="a bench")
    again = prefix_again(loaded, num_rounds)
    yield f"| first token of a known prefix of 2,000 tokens, of cold | {_percent(again)} | 5 % |"
    share = overhead(loaded, num_rounds)
    yield f"| Python beside the model, of a step of batch 16 | {_percent(share)} | 5 % |"
    speed, near, far = window(num_rounds)
    where = f"window of {WINDOW:,}, {LAYERS_WITH_A_WINDOW} layers: tokens/s at position {FAR:,} of {NEAR:,}"
    yield f"| {where} | {_percent(speed)} | 95 % |"
    yield f"| the same: blocks of the cache that a sequence holds | {near}, then {far} | constant |"
    beyond = Spread.of(
        seconds_until_it_speaks(FIRST_TOKEN) - seconds_until_it_speaks(IMPORT_TORCH)
        for _ in range(num_rounds)
    )
    yield f"| the shipped model: first token beyond `import torch` | {beyond.median:.2f} s | 1.0 s |"
    yield f"| the shipped model: decode at batch 1, of its limit | {_percent(of_limit())} | 60 % |"


def prefix_again(model: Decoder, num_rounds: int, length: int = 2000) -> Spread:
    """Time to the first token of a prompt whose first `length` tokens are known, of that when they were not."""
    engine, prompts = Engine(model), Prompts(model)
    params = malmoi.SamplingParams(temperature=0, max_tokens=1)
    ratios = []
    for _ in range(num_rounds):
        prefix = prompts.draw(length)
        cold, warm = (
            engine.generate([prefix + prompts.draw(16)], params)[0].token_times[0] for _ in range(2)
        )
        ratios.append(warm / cold)
    return Spread.of(ratios)


def overhead(model: Decoder, num_rounds: int) -> Spread:
    """The part of a step of 16 sequences that is neither the model's `hidden` and `head` nor a replay of them."""
    spent = 0.0

    def timed(compute: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(compute)
        def measured(*args: Any) -> Any:
            nonlocal spent
            began = time.perf_counter()
            out = compute(*args)
            spent += time.perf_counter() - began
            return out

        return measured

    decode = Decode(model, batch=16, context=256)
    decode()
    hidden, forward, replay = model.hidden, model.head.forward, Recording.replay
    model.hidden, model.head.forward, Recording.replay = timed(hidden), timed(forward), timed(replay)
    shares = []
    for _ in range(num_rounds):
        spent, began = 0.0, time.perf_counter()
        decode()
        shares.append(1 - spent / (time.perf_counter() - began))
    model.hidden, model.head.forward, Recording.replay = hidden, forward, replay
    return Spread.of(shares)


def window(num_rounds: int) -> tuple[Spread, int, int]:
    """How fast a far position decodes, of a near one; and how many blocks of the cache each of the two holds."""
    config = MistralConfig(
        vocab_size=32_000, hidden_size=1024, intermediate_size=4096, num_layers=LAYERS_WITH_A_WINDOW, num_heads=16,
        num_kv_heads=8, head_dim=64, max_positions=FAR + 1024, window=WINDOW,
    )  # fmt: skip
    model = prepack(require_kind(random_model(config, torch.bfloat16), Decoder, for_what="a bench"))
    decodes = {str(position): Decode(model, batch=1, context=position) for position in (NEAR, FAR)}
    measured = list(rounds(decodes, seconds=0, fewest=32 * num_rounds))
    near, far = (
        sum(len(table.blocks) for table in decode.generations[0].tables) for decode in decodes.values()
    )
    return Spread.of(each[str(NEAR)] / each[str(FAR)] for each in measured), near, far


def of_limit() -> Spread:
    """What the shipped model reaches of what the machine allows."""
    model = require_kind(malmoi.load().model, Decoder, for_what="a bench")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as `malmoi chat` runs it
    *_, report = measure("shipped", model, precision="bf16", prompts=[], batches=[1], context=256, seconds=10)
    torch.set_num_threads(threads)
    return report.rows[0].share


def _percent(value: Spread) -> str:
    return f"{value.median:.1%} ({value.low:.1%}-{value.high:.1%})"
