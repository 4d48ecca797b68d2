"""How each token of a completion was chosen, as a table for the terminal, and what speculation did for it.

Read next: `malmoi.engine.sampling`, where what is shown here happens.
"""

import math
from itertools import pairwise

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from malmoi.engine.speculate import DraftCounts
from malmoi.llm import Completion, TokenLogprob

CAPTION = (
    "31→45: in percent, what the model said → what was drawn with, after temperature, penalties and filters"
)


def explain(completion: Completion, console: Console | None = None) -> None:
    """Print a row a token: the token, its candidates with their probabilities, its milliseconds.

    Needs a completion with `logprobs`. Prints to standard error if there is no `console`.
    """
    assert completion.logprobs is not None, "ask for SamplingParams(logprobs=...)"
    console = console or Console(stderr=True)
    table = Table("", "token", "%", "candidates", "ms", box=SIMPLE, caption=CAPTION, caption_justify="left")
    table.columns[0].justify = table.columns[4].justify = "right"
    times = (0.0, *completion.timings.token_times)
    rows = zip(completion.logprobs, pairwise(times), strict=True)
    for number, (token, (before, after)) in enumerate(rows, start=1):
        milliseconds = f"{1000 * (after - before):.1f}"
        table.add_row(
            str(number), Text(_shown(token), style="bold"), _odds(token), _candidates(token), milliseconds
        )
    console.print(table)
    usage, timings = completion.usage, completion.timings
    console.print(
        f"{usage.prompt_tokens} tokens in, {usage.completion_tokens} out, ended by {completion.finish_reason}; "
        f"first token after {timings.first_token:.3f} s, then {timings.tokens_per_second:.1f} tokens/s",
        highlight=False,
        soft_wrap=True,
    )


def explain_drafts(drafts: DraftCounts, console: Console | None = None) -> None:
    """Print how often guesses were right: so many steps of the model were saved. To standard error, as `explain`."""
    share = f" ({drafts.num_accepted / drafts.num_proposed:.0%})" if drafts.num_proposed else ""
    (console or Console(stderr=True)).print(
        f"speculation: {drafts.num_proposed} tokens guessed, {drafts.num_accepted} of them right{share}; each of "
        "these saves a step",
        highlight=False,
        soft_wrap=True,
    )


def _candidates(token: TokenLogprob) -> Text:
    """The likeliest tokens: the chosen one bold, what could not be drawn dim."""
    line = Text()
    for candidate in token.top:
        is_chosen = candidate.token == token.token
        style = "bold" if is_chosen else "" if candidate.probability else "dim"
        line.append(f"{_shown(candidate)} {_odds(candidate)}", style)
        line.append("  ")
    return line


def _odds(token: TokenLogprob) -> str:
    return f"{_percent(math.exp(token.logprob))}→{_percent(token.probability)}"


def _percent(probability: float) -> str:
    return "<1" if 0 < probability < 0.01 else f"{100 * probability:.0f}"


def _shown(token: TokenLogprob) -> str:
    """The token as text in quotes; as hexadecimal bytes if it is only a part of a character."""
    try:
        return repr(token.bytes.decode("utf-8"))
    except UnicodeDecodeError:
        return f"<{token.bytes.hex(' ')}>"
