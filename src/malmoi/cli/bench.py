"""`malmoi bench [MODEL_OR_PRESET]`: how fast a model runs here, and how fast this machine could run it.

Read next: `malmoi.bench`, which measures.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from malmoi.bench.report import Report
    from malmoi.nn.stack import Decoder

Precision = Literal["bf16", "fp32", "int8", "int4"]


def _counts(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """The whole numbers of `1,4,16`; anything else is refused."""
    if text is None:
        return None
    numbers = text.split(",")
    if not all(number.strip().isdecimal() and int(number) > 0 for number in numbers):
        raise click.BadParameter(f"{text!r} is no list of whole numbers above 0. Give them like 1,4,16.")
    return tuple(map(int, numbers))


@click.command(short_help="Measure speed, and what the machine allows. 속도를 재고 한계와 견줍니다.")
@click.argument("model", metavar="[MODEL_OR_PRESET]", required=False)
@click.option(
    "--dtype",
    type=click.Choice(["bf16", "fp32", "int8", "int4"]),
    help="Of the weights. 정밀도. [default: the file's; bf16]",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of PyTorch. 스레드 수.")
@click.option(
    "--prompt",
    "prompts",
    callback=_counts,
    metavar="N,...",
    help="Tokens of a prompt. 프롬프트 길이. [default: 512]",
)
@click.option(
    "--batch",
    "batches",
    callback=_counts,
    metavar="N,...",
    default="1,4,16",
    show_default=True,
    help="Sequences that decode at once. 동시 개수.",
)
@click.option(
    "--context",
    type=click.IntRange(min=2),
    metavar="N",
    help="Tokens before decoding. 문맥 길이. [default: 256]",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=60, show_default=True, help="About so long. 재는 시간."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/bench"),
    show_default=True,
    help="Where bench.json and bench.png go. 결과 폴더.",
)
def bench(
    model: str | None,
    dtype: Precision | None,
    threads: int | None,
    prompts: tuple[int, ...] | None,
    batches: tuple[int, ...],
    context: int | None,
    seconds: float,
    out: Path,
) -> None:
    """Measure speed, and what the machine allows. 속도를 재고 한계와 견줍니다.

    MODEL_OR_PRESET is a directory, a hub id, or a published model by its name, such as qwen2.5-0.5b, which then gets
    random weights; left out, the model that ships with Malmoi. First memory and matrix products are measured, then
    prompts and decoding against them, all in turn, at least three rounds; Ctrl-C shows what there is. Prompts and
    contexts that are not said are as long as written, or as the model has room for.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from malmoi.bench.plot import HOW_TO_DRAW, can_draw, draw_roofline
    from malmoi.bench.report import measure
    from malmoi.bench.table import as_table
    from malmoi.core.errors import CheckpointError
    from malmoi.core.files import atomic_write, write_text

    name, subject = _subject(model, dtype, threads)
    room = subject.max_positions - 1
    reports: list[Report] = []
    try:
        with Console(stderr=True).status("") as status:
            for report in measure(
                name,
                subject,
                precision=dtype or _precision(subject),
                prompts=prompts or (min(512, room),),
                batches=batches,
                context=context or min(256, room // 2),
                seconds=seconds,
                on_turn=lambda number, turn: status.update(f"round {number or 'to warm up'}: {turn}"),
            ):
                reports.append(report)
    except KeyboardInterrupt:
        if not reports:
            raise
        click.echo("stopped; these rounds were done 여기까지 잰 것:", err=True)
    report = reports[-1]
    Console(highlight=False).print(as_table(report))
    write_text(out / "bench.json", json.dumps(asdict(report), indent=2), error=CheckpointError)
    if can_draw():
        with atomic_write(out / "bench.png", error=CheckpointError) as file:
            file.write_bytes(draw_roofline(report))
    click.echo(
        f"{out}/bench.json, {out}/bench.png" if can_draw() else f"{out}/bench.json; {HOW_TO_DRAW}", err=True
    )


def _subject(model: str | None, dtype: Precision | None, threads: int | None) -> "tuple[str, Decoder]":
    """What is measured, packed as it runs fastest, and what to call it.

    Raises what `load_model` raises, and ConfigError for another kind of model.
    """
    import torch

    from malmoi.bench.subject import random_model
    from malmoi.cli.loading import choose_threads
    from malmoi.models import load_model, require_kind
    from malmoi.models.registry import find_preset, preset_names
    from malmoi.nn.packed import prepack
    from malmoi.nn.quantized import quantize
    from malmoi.nn.stack import Decoder
    from malmoi.weights.default import default_model

    if model is not None and not Path(model).is_dir() and model in preset_names():
        name = f"{model}, random weights"
        found = random_model(find_preset(model), torch.float32 if dtype == "fp32" else torch.bfloat16)
        if dtype in ("int8", "int4"):
            quantize(found, dtype)
    else:
        name = "the model that ships with Malmoi" if model is None else Path(model).resolve().name
        found = load_model(default_model() if model is None else model, dtype=dtype, is_prepacked=True)
    decoder = require_kind(found, Decoder, for_what="malmoi bench")
    choose_threads(decoder, threads)
    return name, prepack(decoder)


def _precision(model: "Decoder") -> str:
    """What `--dtype` calls the precision of its weights."""
    import torch

    from malmoi.nn.quantized import quantization_of

    quantization = quantization_of(model)
    short = {torch.bfloat16: "bf16", torch.float32: "fp32"}
    return quantization.precision if quantization else short.get(model.dtype, str(model.dtype))
