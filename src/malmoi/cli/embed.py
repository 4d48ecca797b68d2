"""`malmoi embed TEXT...`: a vector a text, or how alike the texts are.

Read next: `malmoi.llm.text_encoder`, which does it.
"""

import json

import click

from malmoi.cli.stdin import read_texts


@click.command(short_help="Turn texts into vectors. 글을 벡터로 바꿉니다.")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("--model", required=True, metavar="DIR", help="An encoder's directory or hub id. 인코더 모델.")
@click.option(
    "--similarity", is_flag=True, help="Print how alike each text is to each. 서로 얼마나 비슷한지."
)
def embed(texts: tuple[str, ...], model: str, similarity: bool) -> None:
    """Turn texts into vectors. 글을 벡터로 바꿉니다.

    TEXT may be `-`: a text a line of standard input. Prints one JSON object a text, or, with --similarity, one line a
    text: the cosine of its vector with each, and the text.
    """
    read = read_texts(texts)
    from malmoi.cli.loading import load_text_encoder
    from malmoi.llm.text_encoder import cosines

    vectors = load_text_encoder(model).embed(read)
    if similarity:
        for text, row in zip(read, cosines(vectors).tolist(), strict=True):
            click.echo("\t".join([*(f"{cosine:.3f}" for cosine in row), text]))
        return
    for text, vector in zip(read, vectors.tolist(), strict=True):
        click.echo(json.dumps({"text": text, "embedding": vector}, ensure_ascii=False))
