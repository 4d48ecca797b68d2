"""The options that `malmoi generate` and `malmoi chat` share: in what precision a model runs, in how much memory, how.

    options -> EngineSettings -> `load_llm`: dtype, device, threads | engine_options

Whether they go together the engine says. Read next: `malmoi/engine/engine.py`, what each means; `sampling.py`, the
options about the answers.
"""

from dataclasses import dataclass, fields
from typing import Any

import click

from malmoi.cli.option_group import option_group
from malmoi.core.errors import CheckpointError, HubError
from malmoi.core.quantities import read_seconds, read_size


class Size(click.ParamType[int]):
    """Bytes, as `1000000`, `512M` or `1.5GiB`; K, M, G and T are powers of 1,024."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return read_size(str(value))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class Span(click.ParamType[float]):
    """Seconds, as `90`, `10m` or `1h30m`."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return read_seconds(str(value))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


OPTIONS = (
    click.option(
        "--dtype",
        type=click.Choice(["bf16", "fp32", "int8", "int4"]),
        help="Of the weights. [default: the file's]",
    ),
    click.option(
        "--device", default="cpu", show_default=True, metavar="NAME", help="Where it runs: cpu, or cuda for a GPU."
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of PyTorch. [default: its own; 1 for a small model]",
    ),
    click.option(
        "--cache-bytes",
        type=Size(),
        metavar="SIZE",
        help="At most so much for keys and values, such as 512M. [default: 1G]",
    ),
    click.option(
        "--cache-dtype", type=click.Choice(["int8"]), help="Keys and values in 8 bits: half the memory."
    ),
    click.option(
        "--prefix-caching/--no-prefix-caching",
        default=True,
        help="Compute common beginnings once. [default: yes]",
    ),
    click.option(
        "--speculation",
        default="off",
        show_default=True,
        metavar="off|lookup|auto|DIR",
        help="Guess tokens and check them: from what was said before, always or as long as it pays, or with the "
        "smaller model in DIR. Answers stay the same.",
    ),
    click.option(
        "--batch-invariant", is_flag=True, help="The same logits to the last bit in any company; slower."
    ),
    click.option("--keeps-freed-memory", is_flag=True, help="Faster with long prompts, in a larger process."),
)


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What `OPTIONS` say. Fields have the names of the arguments of `Engine`; None leaves what is the default there.

    `speculation` is "off", "lookup", "auto", or the directory or hub id of a smaller model with the same tokenizer.

    >>> EngineSettings(cache_bytes=2**26, prefix_caching=False).engine_options()
    {'cache_bytes': 67108864, 'prefix_caching': False}
    """

    dtype: str | None = None
    device: str = "cpu"
    threads: int | None = None
    cache_bytes: int | None = None
    cache_dtype: str | None = None
    prefix_caching: bool = True
    speculation: str = "off"
    batch_invariant: bool = False
    keeps_freed_memory: bool = False

    def engine_options(self) -> dict[str, Any]:
        """What differs from an engine's defaults. Loads the model that guesses, if there is one.

        Raises what `load_model` and `DraftModel` raise.
        """
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(EngineSettings)
            if field.name not in ("dtype", "device", "threads") and getattr(self, field.name) != field.default
        }
        return changed | ({"speculation": self._drafter()} if "speculation" in changed else {})

    def _drafter(self) -> object:
        """As an engine takes it."""
        from malmoi.engine import DraftModel, PromptLookup
        from malmoi.models import load_model, require_kind
        from malmoi.nn.stack import Decoder

        match self.speculation:
            case "auto":
                return "auto"
            case "lookup":
                return PromptLookup()
            case directory:
                try:
                    model = load_model(directory, device=self.device, is_prepacked=True)
                except (CheckpointError, HubError) as error:
                    problem = (
                        f"speculation={directory!r} is none of off, lookup and auto, and as a model: {error}"
                    )
                    raise type(error)(problem) from None
                return DraftModel(require_kind(model, Decoder, for_what="a model that guesses"))


engine_options = option_group(OPTIONS, EngineSettings, argument="settings")
"""Adds `OPTIONS` to a click command, which gets them as one argument, `settings`."""
