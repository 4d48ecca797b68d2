"""A help page in sections: `malmoi generate --help` has more options than one list can show.

Place in the flow: a verb's `click.command(cls=...)`. Read next: `sampling.py` and `engine.py`, whose options these are.
"""

from dataclasses import fields

import click

from malmoi.cli.engine import EngineSettings
from malmoi.engine import SamplingParams


class GeneratingCommand(click.Command):
    """A command with sampling and engine options, which stand under headings of their own, its own options first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Sampling": [], "Engine": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                sections[_SECTION_OF.get(param.name or "", "Options")].append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


_SECTION_OF = {"assignments": "Sampling"}
_SECTION_OF |= {field.name: "Sampling" for field in fields(SamplingParams)}
_SECTION_OF |= {field.name: "Engine" for field in fields(EngineSettings)}
