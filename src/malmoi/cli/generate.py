"""`malmoi generate PROMPT`: a text goes in, its continuation or answer comes out; as JSON, or token by token explained.

Read next: `sampling.py`, `engine.py`, the options; `malmoi.llm`, which does it; `explain.py`, what `--verbose` shows.
"""

import json
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from malmoi.cli.engine import EngineSettings, engine_options
from malmoi.cli.sampling import sampling_changes, sampling_options
from malmoi.cli.sections import GeneratingCommand
from malmoi.cli.stdin import read_argument_or_stdin

if TYPE_CHECKING:
    from malmoi.llm import Completion

NUM_CANDIDATES = 5


@click.command(cls=GeneratingCommand, short_help="Continue a text. 글을 이어 씁니다.")
@click.argument("prompt")
@sampling_options
@engine_options
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An image that stands before the text, for a model that sees; may be given several times.",
)
@click.option(
    "--audio",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A sound that stands before the text, for a model that hears; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: text, tokens, usage, ...")
@click.option(
    "--verbose", is_flag=True, help="Show how each token was chosen: candidates, probabilities, time."
)
def generate(
    prompt: str,
    model: str | None,
    images: tuple[Path, ...],
    audio: tuple[Path, ...],
    as_json: bool,
    verbose: bool,
    settings: EngineSettings,
    **options: Any,
) -> None:
    """Continue a text. 글을 이어 씁니다.

    PROMPT goes to the model as it is (`-`: read it from standard input); for a conversation there is
    `malmoi chat`. An encoder-decoder, such as T5 or BART, reads it and answers. What --verbose shows goes to
    standard error, or with --json the tokens into "logprobs". Several answers (--set n=3) come when all are
    complete, numbered.
    """
    changes = sampling_changes(**options)
    prompt = read_argument_or_stdin(prompt)
    from malmoi.cli.loading import load_llm

    llm = load_llm(model, settings)
    params = replace(llm.default_params, **changes)
    if verbose and not params.logprobs:
        params = replace(params, logprobs=NUM_CANDIDATES)
    if params.n > 1:
        completion = llm.generate(prompt, params, images=images, audio=audio)
        if not as_json:
            for number, one in enumerate([completion, *completion.siblings], start=1):
                print(f"[{number}] {one.text}", flush=True)
    else:
        with closing(llm.stream(prompt, params, images=images, audio=audio)) as stream:
            for piece in stream:
                if not as_json:
                    print(piece, end="", flush=True)
            completion = stream.completion
        if not as_json:
            print(flush=True)
    if as_json:
        print(as_json_line(completion), flush=True)
    if verbose:
        from malmoi.cli.explain import explain, explain_drafts

        for one in [] if as_json else [completion, *completion.siblings]:
            explain(one)
        if llm.engine.drafter is not None:
            explain_drafts(llm.engine.drafts)


def as_json_line(completion: "Completion") -> str:
    """Return the completion as one line of JSON; bytes are lists of numbers, times are in seconds."""
    whole = asdict(completion)
    for mapping, one in zip([whole, *whole["siblings"]], [completion, *completion.siblings], strict=True):
        mapping["usage"]["total_tokens"] = one.usage.total_tokens
    return json.dumps(whole, ensure_ascii=False, default=list)
