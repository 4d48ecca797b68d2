"""The engine against what one would use instead, and against its own targets: the tables of docs/performance.md.

A Llama of 0.44 B random weights is made on the spot. Each program runs in its own process and environment (`peers/`),
and in every round each does the same work once; what counts are medians of the ratios within rounds. To see that it
runs: `--layers 2 --rounds 3 --peers transformers --precisions bf16`. The default wants a machine that is idle.
"""

import argparse
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from own_targets import own_targets
from peers import environments
from peers.field import OURS, Entrant, Field, Race, Result, Times

import malmoi
from malmoi.bench.rounds import Spread
from malmoi.bench.subject import random_model
from malmoi.models.llama import LlamaConfig

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- written by bench/engine.py -->", "<!-- until here -->"


def decoding(race: Race, times: Times) -> float:
    return (race.num_tokens - 1) / (times[0][-1] - times[0][0])


def reading(race: Race, times: Times) -> float:
    return race.length / times[0][0]


def serving(race: Race, times: Times) -> float:
    return race.num_prompts * race.num_tokens / max(each[-1] for each in times)


RACES = (
    Race(
        name="decode, batch 1",
        num_prompts=1,
        length=128,
        num_tokens=33,
        rate=decoding,
        target="the lower of × 1.1 and 92 % of the limit",
    ),
    Race(
        name="prefill of 512",
        num_prompts=1,
        length=512,
        num_tokens=1,
        rate=reading,
        target="× 2.0, and 60 % of the limit",
    ),
    Race(
        name="prefill of 4,096",
        num_prompts=1,
        length=4096,
        num_tokens=1,
        rate=reading,
        target="× 2.0, and 60 % of the limit",
    ),
    Race(
        name="16 requests, 256 in, 128 out",
        num_prompts=16,
        length=256,
        num_tokens=128,
        rate=serving,
        target="× 2.5",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    others = [name for name in environments.names() if name != OURS]
    parser.add_argument("--peers", nargs="*", default=others, help=f"of {', '.join(others)}")
    parser.add_argument("--precisions", nargs="*", default=["bf16", "int8", "int4"])
    parser.add_argument("--races", nargs="*", default=[race.name for race in RACES], help="by name")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = make_checkpoint(arguments.layers)
    field = Field(model, threads=arguments.threads, num_rounds=arguments.rounds)
    races = [race for race in RACES if race.name in arguments.races]
    for precision in arguments.precisions:
        field.race(precision, races, [OURS, *arguments.peers])
    page = ""
    for line in chain(tables(field), [""], own_targets(model, num_rounds=arguments.rounds)):
        print(line, flush=True)
        page += f"{line}\n"
    if arguments.write:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{page}\n{END}{rest.partition(END)[2]}", "utf-8")


def make_checkpoint(num_layers: int) -> Path:
    """Random weights in bf16; and the shipped tokenizer, which encodes nothing, but some programs want to see one."""
    directory = environments.BUILD / "models" / f"llama-{num_layers}-layers"
    if not (directory / "tokenizer.json").is_file():
        config = LlamaConfig(
            vocab_size=32_000, hidden_size=1024, intermediate_size=4096, num_layers=num_layers, num_heads=16,
            num_kv_heads=8, head_dim=64, max_positions=8192,
        )  # fmt: skip
        malmoi.save_model(random_model(config, torch.bfloat16), directory)
        for file in malmoi.default_model().glob("tokenizer*.json"):
            shutil.copy(file, directory)
    return directory


def tables(field: Field) -> Iterator[str]:
    """What came out, in Markdown."""
    yield f"**Machine.** {field.machine}."
    yield ""
    if field.weather:
        reading, products = (
            Spread.of(each[key] for each in field.weather) for key in ("memory", "arithmetic")
        )
        yield (
            f"**Measured beside it.** Reading {_spread(reading, 1e-9)} GB/s; products {_spread(products, 1e-12)} "
            f"TFLOP/s ({field.products.best})."
        )
        yield ""
    yield (
        f"**Weights.** A Llama of {len(field.twin.blocks)} layers, {field.num_parameters / 1e6:,.0f} M random numbers. "
        f"{field.num_rounds} rounds: median (lowest-highest)."
    )
    yield from (
        "",
        "| precision | program | version | bits a weight | logit error |",
        "|---|---|---|---:|---:|",
    )
    yield from map(_entrant, field.entrants)
    columns = ("work", "precision", "program", "tokens/s", "ours is", "of the limit", "first token, p99")
    yield from ("", f"| {' | '.join(columns)} |", "|---|---|---|---:|---:|---:|---:|")
    yield from map(_result, field.results)


def _entrant(found: Entrant) -> str:
    if found.missing:
        return f"| {found.precision} | {found.name} | missing: {found.missing} | | |"
    return f"| {found.precision} | {found.name} | {found.version} | {found.bits:.2f} | {found.error:.2%} |"


def _result(found: Result) -> str:
    where = f"| {found.race.name} | {found.precision} | {found.name} |"
    if found.rate is None:
        return f"{where} failed: {found.failed} | | | |"
    ours = f"× {_spread(found.ours)}" if found.ours else f"target: {found.race.target}"
    share = f"{found.share.median:.0%}" if found.share else ""
    return f"{where} {_spread(found.rate)} | {ours} | {share} | {found.first_token:.2f} s |"


def _spread(value: Spread, scale: float = 1) -> str:
    median, low, high = (number * scale for number in (value.median, value.low, value.high))
    return f"{median:,.2f} ({low:,.2f}-{high:,.2f})"


if __name__ == "__main__":
    main()
