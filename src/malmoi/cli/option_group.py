"""Options that belong together and reach a command as one value: `engine.py` and `serve_limits.py` make such groups.

click options, a dataclass with a field for each -> OPTION GROUP -> one argument of the command
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any

Command = Callable[..., Any]


def option_group(
    options: Sequence[Callable[[Command], Command]], kind: type[Any], *, argument: str
) -> Callable[[Command], Command]:
    """Return what adds `options` to a command, which gets them as one `kind`, under the name `argument`.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Size:
    ...     width: int
    >>> sized = option_group([click.option("--width", type=int)], Size, argument="size")
    >>> command = click.command()(sized(lambda size: click.echo(size)))
    >>> command(["--width", "3"], standalone_mode=False)
    Size(width=3)
    """

    def with_group(command: Command) -> Command:
        @wraps(command)
        def grouped(**given: Any) -> Any:
            own = {field.name: given.pop(field.name) for field in fields(kind)}
            return command(**given, **{argument: kind(**own)})

        result: Command = grouped
        for option in reversed(options):
            result = option(result)
        return result

    return with_group
