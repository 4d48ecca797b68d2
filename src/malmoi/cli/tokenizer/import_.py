"""`malmoi tokenizer import`: a tokenizer of another library as a tokenizer.json.

Read next: `malmoi.text.imported`, which has the formats.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from malmoi.cli.tokenizer.corpus import OUT_FOR_THE_SAME_IDS, of_a_model

if TYPE_CHECKING:
    from malmoi.text.tokenizer import Tokenizer


@click.command("import", short_help="Turn other formats into a tokenizer.json. 다른 형식을 바꿉니다.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True))
@OUT_FOR_THE_SAME_IDS
@click.option(
    "--encoding",
    metavar="NAME",
    help="Which encoding a file of tiktoken is: cl100k_base, llama3, qwen ... 인코딩 이름.",
)
@click.option(
    "--pattern",
    metavar="REGEX",
    help="Where a file of tiktoken cuts words (Oniguruma), instead. 낱말을 자르는 정규식.",
)
def import_(path: Path, out: Path, encoding: str | None, pattern: str | None) -> None:
    """Turn another library's tokenizer into a tokenizer.json. 다른 형식의 토크나이저를 바꿉니다.

    FILE is a tokenizer.model of SentencePiece, a file of tiktoken, a tekken.json, a vocab.json with its merges.txt, a
    vocab.txt, a tokenizer.json, or a directory with one of them. The ids stay those of the library it comes from.
    """
    from malmoi.text.imported.files import find_file, is_tokenizer_json
    from malmoi.text.tokenizer import Tokenizer

    file = find_file(path)
    if is_tokenizer_json(file) and not (encoding or pattern):
        imported = Tokenizer.load(file)
    else:
        imported = Tokenizer.convert(file, encoding=encoding, pattern=pattern)
    imported.require_stated_ids()
    if (found := of_a_model(out)) and _gives_other_ids(Tokenizer.load(out / "tokenizer.json"), imported):
        raise click.UsageError(
            f"{out} holds a model ({found}), whose tokenizer.json gives other ids than {file} and would be lost. Name "
            "another directory with --out."
        )
    imported.save(out)
    click.echo(f"{out}: {imported.vocab_size} tokens, {len(imported.special_tokens)} of them special.")


def _gives_other_ids(one: "Tokenizer", other: "Tokenizer") -> bool:
    """Whether an id is another token, or the text of all tokens is cut or framed in another way."""
    if one.backend.get_vocab() != other.backend.get_vocab():
        return True
    text = one.decode(range(one.vocab_size))
    return one.encode_framed(text) != other.encode_framed(text)
