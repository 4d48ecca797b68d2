from collections.abc import Sequence

import click
import pytest
from click.testing import CliRunner

from malmoi.cli.several import SeveralValues


@click.command(cls=SeveralValues)
@click.argument("names", nargs=-1)
@click.option("--text", "-t", multiple=True)
@click.option("--out")
@click.option("--quiet", is_flag=True)
def show(names: Sequence[str], text: Sequence[str], out: str | None, quiet: bool) -> None:
    click.echo(f"{' '.join(names)} | {' '.join(text)} | {out} | {quiet}")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("a b --text c", "a b | c | None | False"),
        ("a b --text c d e --out f", "a b | c d e | f | False"),
        ("a --text c --text d e", "a | c d e | None | False"),
        ("a -t c d --quiet b", "a b | c d | None | True"),
        ("--out f a --text c", "a | c | f | False"),
        ("a --text=c b", "a b | c | None | False"),
        ("--text c -- a b", "a b | c | None | False"),
        ("", " |  | None | False"),
    ],
)
def test_the_name_of_an_option_is_good_for_all_values_up_to_the_next(arguments: str, shown: str) -> None:
    assert CliRunner().invoke(show, arguments.split()).output == f"{shown}\n"


def test_an_option_without_a_value_is_refused() -> None:
    result = CliRunner().invoke(show, ["a", "--text"])
    assert result.exit_code == 2
    assert "requires an argument" in result.output
