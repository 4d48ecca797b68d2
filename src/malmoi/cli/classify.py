"""`malmoi classify TEXT...`: the label of each text, and how sure the model is.

Read next: `malmoi.llm.text_encoder`, which does it.
"""

import json

import click

from malmoi.cli.stdin import read_texts


@click.command(short_help="Label texts. 글을 분류합니다.")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("--model", required=True, metavar="DIR", help="A classifier's directory or hub id. 분류 모델.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text: label, all scores.")
def classify(texts: tuple[str, ...], model: str, as_json: bool) -> None:
    """Label texts. 글을 분류합니다.

    TEXT may be `-`: a text a line of standard input. Prints one line a text: label, probability, text.
    """
    read = read_texts(texts)
    from malmoi.cli.loading import load_text_encoder

    for text, found in zip(read, load_text_encoder(model).classify(read), strict=True):
        if as_json:
            row = {"text": text, "label": found.label, "scores": dict(found.scores)}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            click.echo(f"{found.label}\t{found.score:.3f}\t{text}")
