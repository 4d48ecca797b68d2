"""A command whose options take several values after one name: `--text a.txt b.txt` is `--text a.txt --text b.txt`.

Place in the flow: a verb's `click.command(cls=...)`. It is for shell patterns, `--text *.txt`. Read next:
`tokenizer/compare.py`, which uses it.
"""

from collections.abc import Iterable, Iterator

import click


class SeveralValues(click.Command):
    """A click command in which the name of a `multiple` option is good for all values up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments as click does, with the names written out."""
        options = (param for param in self.params if isinstance(param, click.Option) and param.multiple)
        names = {name for option in options for name in option.opts}
        return super().parse_args(ctx, list(_written_out(args, names)))


def _written_out(args: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """Put the name of an option before each of its values.

    >>> list(_written_out(["a", "--text", "b", "c", "--json", "d"], ["--text"]))
    ['a', '--text', 'b', '--text', 'c', '--json', 'd']
    """
    several: str | None = None
    follows_name = False
    for arg in args:
        if arg.startswith("-"):
            several = arg if arg in names else None
            follows_name = True
        elif several is not None and not follows_name:
            yield several
            follows_name = False
        else:
            follows_name = False
        yield arg
