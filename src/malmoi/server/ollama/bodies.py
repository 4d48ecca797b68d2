"""What Ollama's clients may say: `bodies.py` for its endpoints. Read next: `prompt.py`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from malmoi.server.bodies import Body
from malmoi.server.tools import Tool

_ONE_MACHINE = "malmoi serve decides it for all requests."
_KEEP = "How long the model stays when nobody uses it: seconds, a time such as 5m, or -1 for ever."


class GoBody(Body):
    """A body of which Ollama's own clients, written in Go, send some names empty when they say nothing: `EMPTY`.

    >>> OllamaGenerateBody.model_validate({"model": "default", "suffix": "", "template": ""}).suffix is None
    True
    """

    EMPTY: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if name not in cls.EMPTY or value != ""}


class OllamaOptions(Body):
    """How tokens are chosen. What is not given is as the model's own files say."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "num_ctx": "a model has the context that it was made with.",
        "num_keep": "nothing is dropped from a context.",
        "repeat_last_n": "penalties look at the whole text.",
        "penalize_newline": "a penalty is for every token.",
        **dict.fromkeys(("mirostat", "mirostat_tau", "mirostat_eta"), "use top_p or min_p."),
        "tfs_z": "use typical_p or min_p.",
        **dict.fromkeys(
            (
                "numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all", "vocab_only",
                "use_mmap", "use_mlock", "embedding_only", "num_thread",
            ),
            _ONE_MACHINE,
        ),
    }  # fmt: skip

    num_predict: int | None = Field(
        None, description="At most so many tokens; -1: what the context has room for."
    )
    temperature: float | None = Field(None, description="0: always the likeliest token.")
    top_k: int | None = Field(None, description="Of so many of the likeliest tokens only; 0: all.")
    top_p: float | None = Field(None, description="Of the likeliest tokens, those that make up this much.")
    min_p: float | None = Field(None, description="Only tokens this fraction as likely as the likeliest.")
    typical_p: float | None = Field(
        None, description="Of the tokens whose surprise is nearest to the expected."
    )
    seed: int | None = Field(None, description="The same request gives the same answer.")
    stop: str | list[str] | None = Field(None, description="The text ends before the first of these.")
    repeat_penalty: float | None = Field(
        None, description="Divides the logit of what has occurred; 1 is off."
    )
    frequency_penalty: float | None = Field(None, description="-2 to 2, for each time that a token occurred.")
    presence_penalty: float | None = Field(None, description="-2 to 2, once for a token that occurred.")


class AnswerBody(GoBody):
    """What /api/chat and /api/generate have in common."""

    EMPTY = frozenset({"format"})

    model: str = Field(description="A name of /api/tags.")
    stream: bool = Field(True, description="Send the answer as it comes, a line of JSON a piece.")
    format: Literal["json"] | dict[str, Any] | None = Field(
        None, description="The answer is JSON, or what this schema says."
    )
    options: OllamaOptions = Field(
        default_factory=lambda: OllamaOptions.model_validate({}), description="How tokens are chosen."
    )
    think: bool | Literal["low", "medium", "high", "max"] | None = Field(
        None, description="Whether the model thinks first, or how much, as reasoning_effort has it."
    )
    keep_alive: float | str | None = Field(None, description=_KEEP)
    logprobs: bool = Field(False, description="How likely each token was.")
    top_logprobs: int | None = Field(
        None, description="And so many of the likeliest beside it; with `logprobs`."
    )


class CalledFunction(Body):
    """What was called."""

    index: int = Field(0, description="Its place; it changes nothing.")
    name: str = Field(description="Its name.")
    arguments: dict[str, Any] = Field({}, description="What it was given.")


class OllamaCall(Body):
    """A call of the assistant's."""

    id: str = Field("", description="For the result, if the chat format has them.")
    type: Literal["function"] = Field("function", description="There is one kind.")
    function: CalledFunction = Field(description="Which.")


class OllamaMessage(Body):
    """What somebody said; `images` in base64 stand before the text."""

    role: str = Field(description="system, user, assistant or tool, as the model's chat format has them.")
    content: str = Field("", description="The text.")
    images: list[str] = Field([], description="In base64.")
    thinking: str = Field("", description="What the assistant thought before.")
    tool_calls: list[OllamaCall] = Field([], description="What the assistant wanted called.")
    tool_name: str = Field("", description="Whose result this is.")
    tool_call_id: str = Field("", description="The id of the call whose result this is.")


class OllamaChatBody(AnswerBody):
    """The body of /api/chat."""

    messages: list[OllamaMessage] = Field(
        [],
        description="The conversation, oldest first; none: load the model. The assistant's last is gone on with.",
    )
    tools: list[Tool] = Field([], description="What the model may call.")


class OllamaGenerateBody(AnswerBody):
    """The body of /api/generate."""

    EMPTY = AnswerBody.EMPTY | {"suffix", "system", "template"}

    REFUSED: ClassVar[Mapping[str, str]] = {
        "template": "a model has one chat format. Send `raw` and a prompt as it is to be read.",
        "context": "send the conversation to /api/chat; its beginning is not computed again.",
        **dict.fromkeys(("width", "height", "steps"), "no model here draws."),
    }

    prompt: str = Field(
        "", description="What the user says, or with `raw` the text to go on from; none: load the model."
    )
    suffix: str | None = Field(
        None,
        description="What comes behind the gap after the prompt, for a model that has learned to fill it.",
    )
    system: str | None = Field(None, description="What the model is told before.")
    images: list[str] = Field([], description="In base64.")
    raw: bool = Field(False, description="Go on from the prompt as it is, without the chat format.")


class OllamaEmbedBody(Body):
    """The body of /api/embed."""

    REFUSED: ClassVar[Mapping[str, str]] = {"options": "there is nothing to choose."}

    model: str = Field(description="A name of /api/tags that reads text.")
    input: str | list[str] = Field(description="A text, or several.")
    truncate: Literal[False] = Field(False, description="Too long a text is an error; nothing is cut off.")
    dimensions: int | None = Field(None, description="Only so many of the first numbers, to the length 1.")
    keep_alive: float | str | None = Field(None, description=_KEEP)


class OllamaEmbeddingsBody(Body):
    """The body of /api/embeddings, the older form of /api/embed."""

    REFUSED: ClassVar[Mapping[str, str]] = {"options": "there is nothing to choose."}

    model: str = Field(description="A name of /api/tags that reads text.")
    prompt: str = Field("", description="A text; none: load the model.")
    keep_alive: float | str | None = Field(None, description=_KEEP)


class OllamaShowBody(GoBody):
    """The body of /api/show."""

    EMPTY = frozenset({"model", "name", "system", "template"})
    REFUSED: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("system", "template", "options"), "a model is shown as it is."
    )

    model: str = Field("", description="A name of /api/tags.")
    name: str = Field("", description="The older name of `model`.")
    verbose: Literal[False] = Field(False, description="There is no more to say.")
