"""A group of commands that are imported when one is used: `malmoi --help` needs neither torch nor rich.

Place in the flow: `main.py` makes the group of all verbs of it, `tokenizer/` that of its own. Read next: `main.py`.
"""

import difflib
import keyword
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A click group over modules: the command `name` is `<package>.<name>.<name>`, dashes written as underscores.

    `commands` gives every command its line in `--help`, in the order of the page; `noun` is what one is called there.
    A module whose name Python keeps for itself ends in an underscore: `import_.py`.
    """

    def __init__(self, *args: Any, package: str, lines: Mapping[str, str], noun: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package, self.lines, self.noun = package, lines, noun

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the help page."""
        return list(self.lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command; None if there is no such one."""
        if cmd_name not in self.lines:
            return None
        name = cmd_name.replace("-", "_")
        name += "_" * keyword.iskeyword(name)
        command = getattr(import_module(f"{self.package}.{name}"), name)
        assert isinstance(command, click.Command), f"{self.package}.{name}.{name} is not a click command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, but an unknown command is answered with the nearest one."""
        if args[0] not in self.lines and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.lines, n=1)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"{self.noun.capitalize()}s: {', '.join(self.lines)}."
            )
            ctx.fail(f"there is no {self.noun} {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lines of the commands, importing none of them."""
        with formatter.section(f"{self.noun.capitalize()}s"):
            formatter.write_dl(list(self.lines.items()))
