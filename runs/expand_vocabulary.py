"""How much more Korean fits after an expansion, and whether English stayed: the figures of docs/adapt-vocabulary.md.

    python runs/expand_vocabulary.py DATA OUT                    a stand-in for Llama 3's tokenizer, trained first
    python runs/expand_vocabulary.py DATA OUT --base tekken.json any other base

DATA is a directory with pretrain-ko, pretrain-en and parallel-koen.jsonl.zst to learn from, and tasks/ntrex.dev to
measure on, which nothing learns from. The stand-in is a byte-level BPE with Llama 3's pattern, of English and so
little Korean that a syllable costs about what it costs there, 0.92 tokens. Expansions are written to OUT.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from malmoi.data.files import read_rows
from malmoi.data.sources import SourceConfig, iterate_texts
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe
from malmoi.text.vocabulary.expand import tokens_per_syllable
from malmoi.text.vocabulary.growth import growth_of
from malmoi.text.vocabulary.hangul_pieces import has_hangul

# What Llama 3's tokenizer.json says; digits by three, contractions in either case.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--base-size", type=int, default=64_000)
    parser.add_argument("--base-korean-mb", type=float, default=1.2)
    parser.add_argument("--add", type=int, nargs="+", default=[1000, 4000, 8960, 12_000, 30_000])
    parser.add_argument(
        "--corpus-mb", type=float, default=1000.0, help="of pretrain-ko; all of it if it is less"
    )
    options = parser.parse_args()
    base = Tokenizer.load(options.base) if options.base else stand_in(options)
    news = korean(options.data / "tasks" / "ntrex.dev.jsonl.zst", "ko", holdout_permille=0)
    corpus = options.data / "pretrain-ko.jsonl.zst"
    held_out = list(iterate_texts(str(corpus), split="held-out"))

    began = time.monotonic()
    growth = growth_of(base)
    continuation = growth.continuation(first(korean(corpus), options.corpus_mb))
    pieces = continuation.learn(2 * max(options.add))
    print(f"learned in {time.monotonic() - began:.0f} s")
    texts = {"news": list(news), "held-out": held_out}
    before = {name: tokens_per_syllable(base, sample) for name, sample in texts.items()}
    print(
        "| added | "
        + " | ".join(f"{name}, tokens a syllable | {name}, times as much" for name in texts)
        + " |"
    )
    for num_added in [0, *options.add]:
        grown = growth.grown(pieces, num_added=num_added) if num_added else base
        costs = {name: tokens_per_syllable(grown, sample) for name, sample in texts.items()}
        cells = [f"{cost:.3f} | {before[name] / cost:.2f}x" for name, cost in costs.items()]
        print(f"| {grown.vocab_size - base.vocab_size:,} | {' | '.join(cells)} |", flush=True)
    grown.save(options.out / f"expanded-{num_added}")
    compare_english(base, grown, options.data / "pretrain-en.jsonl.zst")


def stand_in(options: argparse.Namespace) -> Tokenizer:
    """Train the base, English first."""
    english = iterate_texts(str(options.data / "pretrain-en.jsonl.zst"))
    docs = SourceConfig(
        path=str(options.data / "parallel-koen.jsonl.zst"), text_field="ko", exclude=("scrollmapper/",)
    )
    little = first(iterate_texts(docs), options.base_korean_mb)
    base = train_bpe(chain(english, little), vocab_size=options.base_size, pattern=PATTERN)
    base.save(options.out / "base")
    return base


def korean(path: Path, field: str = "text", **settings: int) -> Iterator[str]:
    return iterate_texts(SourceConfig(path=str(path), text_field=field, **settings))


def first(texts: Iterable[str], megabytes: float) -> Iterator[str]:
    """Texts of so many million bytes."""
    size = 0
    for text in texts:
        if size >= megabytes * 1e6:
            return
        yield text
        size += len(text.encode())


def compare_english(base: Tokenizer, grown: Tokenizer, path: Path) -> None:
    """Encode every line with both; a line with Hangul in it may differ."""
    num_lines = num_different = num_with_hangul = 0
    for row in read_rows(path):
        lines = [line for line in row.fields["text"].splitlines() if not has_hangul(line)]
        num_with_hangul += len(row.fields["text"].splitlines()) - len(lines)
        pairs = zip(base.encode_batch(lines), grown.encode_batch(lines), strict=True)
        num_different += sum(old != new for old, new in pairs)
        num_lines += len(lines)
    print(f"{path.name}: {num_lines:,} lines without Hangul, {num_different} of them with other ids")
    print(f"{num_with_hangul} lines with Hangul, which may differ")


if __name__ == "__main__":
    main()
