"""`malmoi inspect PATH_OR_PRESET`: a model as a page, without its weights.

Place in the flow: a configuration -> `inspection.py` counts -> drawn in the terminal, as a picture or as a web page.
"""

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, dir_okay=False, writable=True)


@click.command(short_help="Draw a model, and count what it costs. 모델 구조를 그리고 비용을 셉니다.")
@click.argument("model", metavar="PATH_OR_PRESET")
@click.option(
    "--context", type=click.IntRange(min=1), metavar="N", help="Tokens a sequence. 문맥 길이. [default: 4096]"
)
@click.option(
    "--batch", type=click.IntRange(1, 512), default=1, show_default=True, help="Sequences at once. 동시 개수."
)
@click.option(
    "--dtype",
    type=click.Choice(["bf16", "fp16", "fp32", "int8", "int4"]),
    help="Of the weights. 정밀도. [default: bf16, or as a directory is quantised]",
)
@click.option("--training", is_flag=True, help="Rehearse a training step too; takes longer. 학습 메모리까지.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON. JSON으로.")
@click.option("--svg", type=_FILE, metavar="FILE", help="Write the drawing. 그림 파일.")
@click.option("--html", type=_FILE, metavar="FILE", help="Write the whole page. 웹 페이지 파일.")
def inspect(
    model: str,
    context: int | None,
    batch: int,
    dtype: str | None,
    training: bool,
    as_json: bool,
    svg: Path | None,
    html: Path | None,
) -> None:
    """Draw a model, and count what it costs. 모델 구조를 그리고 비용을 셉니다.

    PATH_OR_PRESET is a model directory, of which only config.json is read, or a published model by its name, such
    as llama3-8b. Nothing is loaded: a model of any size takes no memory.
    """
    import torch

    from malmoi.cli.inspection import DTYPES, inspect_model
    from malmoi.cli.inspection_page import as_html, as_svg
    from malmoi.cli.inspection_text import print_inspection, to_json
    from malmoi.core.errors import CheckpointError
    from malmoi.core.files import write_text
    from malmoi.models import load_config
    from malmoi.models.quantized_files import read_quantization, require_same
    from malmoi.models.registry import find_preset
    from malmoi.nn.quantized import PRECISIONS, Quantization

    path = Path(model)
    config = load_config(path) if path.is_dir() else find_preset(model)
    name = path.resolve().name if path.is_dir() else model
    saved = read_quantization(path) if path.is_dir() else None
    quantization, plain = saved or (None, DTYPES.get(dtype or "bf16", torch.bfloat16))
    if quantization is not None:
        require_same(dtype, quantization, path)
    elif dtype in PRECISIONS:
        quantization = Quantization(precision=dtype)
    found = inspect_model(
        name,
        config,
        context=context,
        batch=batch,
        dtype=plain,
        quantization=quantization,
        with_training=training,
    )
    for file, text in ((svg, as_svg), (html, as_html)):
        if file is not None:
            write_text(file, text(found), error=CheckpointError)
    if as_json:
        click.echo(to_json(found))
    else:
        print_inspection(found)
