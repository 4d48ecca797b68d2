"""Encoding files: `malmoi tokenizer encode-files` against the `tokenizers` library on texts that lie in memory.

    python bench/encode_files.py FILE.jsonl.zst

Ours reads and parses the file, decides what is held out, cuts long texts, encodes, and writes shards with their
checksums. The first peer has the same pieces of text as a list and only encodes them, in batches of the same size; the
second is what one would write in ten lines: read a few rows, encode them, append their ids to a file. The seconds of
the processors are compared with the first, too: on a machine that others use, they say more. At the end: the memory
that a fresh process of ours takes at most, and batches drawn from the token file against batches from the text.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory

import numpy
import tokenizers
from interleave import measure_ratio

from malmoi.data.documents import Text
from malmoi.data.encode_ahead import CHARACTERS_PER_BATCH
from malmoi.data.encode_files import encode_files
from malmoi.data.files import find_files, read_rows
from malmoi.data.pack import PackedStream
from malmoi.data.prose import ProseEncoder
from malmoi.data.samples import Encoder
from malmoi.data.sources import SourceConfig, read_file
from malmoi.text.tokenizer import Tokenizer
from malmoi.weights.default import default_model

# What Linux says of this program alone: a child's ru_maxrss is at least that of its parent.
COMMAND_AND_PEAK = """
import re, sys
from pathlib import Path
from malmoi.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()))
"""


def copy_rows(path: str, out: Path, megabytes: float) -> None:
    """Write the first rows of a file, `megabytes` of text, as JSON Lines."""
    size = 0
    with out.open("w", encoding="utf-8") as file:
        for row in read_rows(find_files(path)[0]):
            file.write(json.dumps(dict(row.fields), ensure_ascii=False) + "\n")
            size += len(row.fields["text"].encode())
            if size >= megabytes * 1e6:
                return


def batches_of(texts: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = [[]]
    for text in texts:
        if sum(map(len, batches[-1])) >= CHARACTERS_PER_BATCH:
            batches.append([])
        batches[-1].append(text)
    return batches


def ten_lines(text: Path, out: Path, library: tokenizers.Tokenizer) -> None:
    """The library, called directly over a file."""
    with text.open(encoding="utf-8") as lines, out.open("wb") as ids:
        while rows := list(islice(lines, 64)):
            encoded = library.encode_batch_fast(
                [json.loads(row)["text"] for row in rows], add_special_tokens=False
            )
            for encoding in encoded:
                ids.write(numpy.array(encoding.ids, "<u2").data)


def processor_seconds(action: Callable[[], object], seen: list[float]) -> Callable[[], None]:
    """The action, which also writes down the seconds that all threads of this process computed."""

    def measured() -> None:
        before = os.times()
        action()
        after = os.times()
        seen.append(after.user + after.system - before.user - before.system)

    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="prose with a field `text`: .jsonl, .jsonl.zst, .parquet")
    parser.add_argument("--tokenizer", default=default_model(), help="a directory or a tokenizer.json")
    parser.add_argument("--megabytes", type=float, default=20, help="of text, encoded in each round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    prose = ProseEncoder(tokenizer=Tokenizer.load(arguments.tokenizer))
    library: tokenizers.Tokenizer = prose.tokenizer.backend
    with TemporaryDirectory() as directory:
        text, tokens = Path(directory, "text.jsonl"), Path(directory, "tokens")
        copy_rows(arguments.file, text, arguments.megabytes)
        source = SourceConfig(path=str(text))
        texts = [document.text for _, document in read_file(text, source) if isinstance(document, Text)]
        batches = batches_of(texts)

        def ours() -> None:
            rmtree(tokens, ignore_errors=True)
            encode_files([source], tokens, prose)

        def peer() -> None:
            for batch in batches:
                encoded = library.encode_batch_fast(batch, add_special_tokens=False)
                assert all(encoding.ids for encoding in encoded)

        spent: tuple[list[float], list[float]] = ([], [])
        measure_ratio(
            processor_seconds(ours, spent[0]),
            processor_seconds(peer, spent[1]),
            rounds=arguments.rounds,
            label=f"encode {arguments.megabytes:g} MB",
        )
        measure_ratio(
            ours,
            lambda: ten_lines(text, Path(directory, "ids"), library),
            rounds=arguments.rounds,
            label=f"encode {arguments.megabytes:g} MB, against a loop over the file",
        )
        ratios = [theirs / our for our, theirs in zip(*spent, strict=True)]
        print(f"processor seconds, peer / ours: median x {median(ratios):.2f}\n")
        del texts, batches

        rmtree(tokens)
        command = ["tokenizer", "encode-files", str(text), "--out", str(tokens), "--tokenizer"]
        said = subprocess.check_output(
            [sys.executable, "-c", COMMAND_AND_PEAK, *command, str(arguments.tokenizer)], text=True
        )
        print(
            f"a fresh process: at most {said.split()[-1]} kB for a file of {text.stat().st_size // 1000} kB\n"
        )

        def draw(path: Path) -> Callable[[], None]:
            def batches_from_the_start() -> None:
                encoder = Encoder(tokenizer=prose.tokenizer)
                sources = [SourceConfig(path=str(path))]
                stream = PackedStream(
                    sources, encoder, tokens_per_batch=8192, context_length=1024, num_epochs=1
                )
                assert all(batch.tokens.shape == (1, 8192) for batch in islice(stream, 400))

            return batches_from_the_start

        measure_ratio(draw(tokens), draw(text), rounds=3, label="400 batches of 8,192 tokens")


if __name__ == "__main__":
    main()
