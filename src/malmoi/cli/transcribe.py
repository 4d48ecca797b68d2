"""`malmoi transcribe FILE...`: sounds go in, what is said in them comes out, a line a file.

Read next: `malmoi.llm.transcribe`, which does it.
"""

import json
from pathlib import Path

import click


@click.command(short_help="Write down what is said. 소리를 듣고 받아씁니다.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--model", required=True, metavar="DIR|HUB_ID", help="A Whisper: a directory or a Hugging Face id."
)
@click.option(
    "--language", metavar="CODE", help="What is spoken: ko, en, ... Left out: what the model hears."
)
@click.option("--translate", is_flag=True, help="Write it down in English, whatever is spoken.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object a file: file, text, language, tokens."
)
def transcribe(
    files: tuple[Path, ...], model: str, language: str | None, translate: bool, as_json: bool
) -> None:
    """Write down what is said in WAV, FLAC or OGG files. 소리를 듣고 받아씁니다.

    One line a file, in the order given. A long sound is heard in pieces, of 30 seconds in published models.
    """
    from malmoi.cli.loading import load_transcriber

    transcriber = load_transcriber(model)
    for file in files:
        found = transcriber.transcribe(
            file, language=language, task="translate" if translate else "transcribe"
        )
        line = {"file": str(file), "text": found.text, "language": found.language, "tokens": found.tokens}
        print(json.dumps(line, ensure_ascii=False) if as_json else found.text, flush=True)
