"""Standard input as text, and the same checks for what a shell hands over as an argument.

Korean from an old system is often CP949 (EUC-KR); decoded as anything but UTF-8 it would reach the model as
noise without a word, so other encodings are refused. What Windows adds to UTF-8 is taken away: the byte order mark
at the very beginning, which Notepad writes, and of each line the carriage return that ends it (CRLF), so that a text
of several lines has the same newlines wherever it was written.
"""

import codecs
import sys
from collections.abc import Iterator, Sequence

from malmoi.core.errors import DataError

_REMEDY = "Malmoi reads UTF-8. Convert it first, for example: iconv -f CP949 -t UTF-8"


def read_argument_or_stdin(prompt: str) -> str:
    """Return `prompt`, or all of standard input where it is `-`, less the newline that ends it.

    Raises:
        DataError: it is not UTF-8.
    """
    return "\n".join(stdin_lines()) if prompt == "-" else _checked(prompt, "PROMPT")


def read_texts(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, or, if `-` is the only one, each line of standard input.

    Raises:
        DataError: one is not UTF-8; names which, counted from 1.
    """
    if list(arguments) == ["-"]:
        return list(stdin_lines())
    return [_checked(argument, f"text {number}") for number, argument in enumerate(arguments, start=1)]


def stdin_lines() -> Iterator[str]:
    """Yield the lines of standard input without what ends them, LF or CRLF, each as soon as it is there.

    Raises:
        DataError: a line is not UTF-8; names the line and the bytes.
    """
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            bad = line[error.start : error.start + 4].hex(" ")
            raise DataError(f"standard input, line {number}: not UTF-8 ({bad}). {_REMEDY}.") from None


def _checked(argument: str, name: str) -> str:
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError as error:  # Python keeps an argument's undecodable bytes as surrogates
        raise DataError(f"{name} is not UTF-8 at character {error.start}. {_REMEDY}.") from None
    return argument
