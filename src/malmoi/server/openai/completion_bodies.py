"""What may be said to `/v1/completions` beside what every completion has. Read next: `completions.py`."""

from pydantic import Field

from malmoi.server.bodies import SamplingBody, Texts


class CompletionBody(SamplingBody):
    """The body of /v1/completions."""

    prompt: Texts = Field(
        description="What the model goes on from: a text, its ids as they are, or a list of either."
    )
    suffix: str | None = Field(
        None, description="What comes behind the gap that is to be filled, for a model that has learned to."
    )
    echo: bool = Field(
        False,
        description="The prompt before its answer, with `logprobs` those of its tokens; with `max_tokens` 0 alone.",
    )
    logprobs: int | None = Field(None, description="So many of the likeliest tokens beside each.")
    best_of: int | None = Field(
        None, description="Write so many answers and give the `n` likeliest, by the token; not in a stream."
    )
