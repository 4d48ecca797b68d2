"""The figures, the plot and the sentence of docs/tokenizers.md: every way to cut text, side by side.

    python runs/ways_to_cut.py                   write the sentence, cut by tokenizers of the sample corpus
    python runs/ways_to_cut.py --check           exit with 1 if the pages do not have it
    python runs/ways_to_cut.py --measure DATA    train all on DATA/pretrain-ko, measure on DATA/tasks/ntrex.dev

The first two take seconds, the last one minutes. A test runs `--check`.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from malmoi.cli.tokenizer.shown import shown
from malmoi.data.sources import SourceConfig, iterate_texts
from malmoi.text import training
from malmoi.text.hangul import num_syllables
from malmoi.text.microscope.analysed import analyse
from malmoi.text.microscope.borders import agree
from malmoi.text.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent
PAGES = {"en": ROOT / "docs" / "tokenizers.md", "ko": ROOT / "docs" / "tokenizers.ko.md"}
PLOT = ROOT / "docs" / "images" / "tokenizers.png"
SENTENCE = "친구가 학교에서 한국어를 가르쳤다. ㅋㅋ"
NUM_DOCUMENTS = 3000


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to cut text: its name, how to learn it, the size for the sentence and those to measure.

    One with `has_spaces_between` drops the spaces of a text: its tokens are shown by name, not by what they add.
    """

    name: str
    train: Callable[..., Tokenizer]
    shown_size: int
    sizes: tuple[int, ...]
    has_spaces_between: bool = False


WAYS = (
    Way(
        name="word",
        train=training.train_words,
        shown_size=6144,
        sizes=(8192, 32768, 131072),
        has_spaces_between=True,
    ),
    Way(
        name="wordpiece",
        train=training.train_wordpiece,
        shown_size=6144,
        sizes=(8192, 16384, 32768),
        has_spaces_between=True,
    ),
    Way(name="bpe", train=training.train_bpe, shown_size=6144, sizes=(4096, 8192, 16384, 32768)),
    Way(
        name="bpe, characters",
        train=training.train_character_bpe,
        shown_size=6144,
        sizes=(4096, 8192, 16384, 32768),
    ),
    Way(name="morpheme", train=training.train_morpheme_bpe, shown_size=6144, sizes=(8192, 16384, 32768)),
    Way(name="unigram", train=training.train_unigram, shown_size=6144, sizes=(8192, 32768)),
    Way(name="char", train=training.train_characters, shown_size=1500, sizes=(1024, 2048, 4096)),
    Way(name="jamo", train=training.train_jamo, shown_size=512, sizes=(512, 1024)),
)
HEADS = {
    "en": (
        "algorithm | vocabulary | unknown eojeols | tokens a syllable | training, CPU s | borders: precision | recall"
    ),
    "ko": "방법 | 어휘 크기 | 모르는 어절 | 음절당 토큰 | 학습 CPU 초 | 형태소 경계 정밀도 | 재현율",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one tokenizer cost to train, and what it makes of the news."""

    name: str
    vocab_size: int
    seconds: float
    unknown: float
    tokens_per_syllable: float
    precision: float | None
    recall: float | None

    def cells(self) -> str:
        shares = [f"{share:.0%}" if share is not None else "" for share in (self.precision, self.recall)]
        return " | ".join(
            [
                self.name,
                f"{self.vocab_size:,}",
                f"{self.unknown:.1%}",
                f"{self.tokens_per_syllable:.3f}",
                f"{self.seconds:.0f}",
                *shares,
            ]
        )


def sentence() -> str:
    """The sentence as each way cuts it, learned from the Korean prose of the sample corpus."""
    prose = SourceConfig(path=str(ROOT / "sample" / "prose.jsonl.zst"), include=("ko.wikipedia.org",))
    talk = SourceConfig(
        path=str(ROOT / "sample" / "chat.jsonl.zst"), include=("songys/",), messages_field="messages"
    )
    texts = [*islice(iterate_texts(prose), 200), *iterate_texts(talk)]
    rows = []
    for way in WAYS:
        tokenizer = way.train(texts, vocab_size=way.shown_size)
        name = tokenizer.backend.id_to_token if way.has_spaces_between else partial(adds, tokenizer)
        tokens = (str(name(token_id)) for token_id in tokenizer.encode(SENTENCE))
        rows.append(f"{way.name:<15} {way.shown_size:>5}  {'|'.join(tokens)}")
    return "\n".join(["```", *rows, "```"])


def adds(tokenizer: Tokenizer, token_id: int) -> str:
    """What a token adds to a text, as it is shown."""
    return shown(tokenizer.token_bytes(token_id))


def measure(data: Path) -> Iterator[Measured]:
    """Train and measure every way at every size; say each when it is done."""
    news = list(iterate_texts(SourceConfig(path=str(data / "tasks/ntrex.dev.jsonl.zst"), text_field="ko")))
    eojeols = [eojeol for text in news for eojeol in text.split()]
    syllables = sum(map(num_syllables, news))
    analysed = list(analyse(news))
    texts = list(islice(iterate_texts(data / "pretrain-ko.jsonl.zst"), NUM_DOCUMENTS))
    print(
        f"{len(texts)} documents, {sum(map(num_syllables, texts)):,} syllables; news: {syllables:,} syllables"
    )
    for way in WAYS:
        for size in way.sizes:
            start = time.process_time()
            tokenizer = way.train(iter(texts), vocab_size=size)
            seconds = time.process_time() - start
            agreement = agree(tokenizer, analysed)
            is_lossless = agreement.num_lost < len(analysed) / 10
            row = Measured(
                name=way.name,
                vocab_size=size,
                seconds=seconds,
                unknown=unknown_share(tokenizer, eojeols),
                tokens_per_syllable=sum(map(len, tokenizer.encode_batch(news))) / syllables,
                precision=agreement.precision if is_lossless else None,
                recall=agreement.recall if is_lossless else None,
            )
            print(row.cells(), flush=True)
            yield row


def unknown_share(tokenizer: Tokenizer, eojeols: Iterable[str]) -> float:
    """The share of the eojeols in which the tokenizer has to write `<unk>`."""
    unknown = tokenizer.token_id(str(tokenizer.config.get("unk_token")))
    encoded = tokenizer.encode_batch(list(eojeols))
    return sum(unknown in ids for ids in encoded) / len(encoded)


def plot(rows: Iterable[Measured]) -> None:
    """Vocabulary against tokens a syllable, a line for each way; the share of unknown eojeols where there are any."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8))
    rows = list(rows)
    for name in dict.fromkeys(row.name for row in rows):
        line = [row for row in rows if row.name == name]
        axes.plot(
            [row.vocab_size for row in line],
            [row.tokens_per_syllable for row in line],
            marker="o",
            label=name,
        )
        for row in line:
            if row.unknown >= 0.001:
                axes.annotate(
                    f"{row.unknown:.0%} unknown",
                    (row.vocab_size, row.tokens_per_syllable),
                    textcoords="offset points",
                    xytext=(0, -14),
                    ha="center",
                    fontsize=7,
                )
    axes.set(xscale="log", yscale="log", xlabel="vocabulary", ylabel="tokens a syllable (news)")
    axes.set_yticks([0.4, 0.6, 0.8, 1, 1.5, 2, 3], labels=["0.4", "0.6", "0.8", "1", "1.5", "2", "3"])
    axes.margins(x=0.08, y=0.1)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})


def table(rows: Iterable[Measured], language: str) -> str:
    head = HEADS[language]
    return "\n".join(
        [f"| {head} |", f"|---|{'---:|' * head.count('|')}", *(f"| {row.cells()} |" for row in rows)]
    )


def with_part(page: str, name: str, part: str) -> str:
    """Return the page with `part` between its marks `<!-- name -->` and `<!-- end of name -->`."""
    before, start, rest = page.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"\n<!-- end of {name} -->")
    assert end, f"the page has no marks for {name}"
    return f"{before}{start}{part}{end}{after}"


def write(name: str, part: Callable[[str], str]) -> bool:
    """Put the part, in its language, into both pages; with `--check`, only say whether they have it."""
    pages = {language: page.read_text("utf-8") for language, page in PAGES.items()}
    wanted = {language: with_part(page, name, part(language)) for language, page in pages.items()}
    if "--check" not in sys.argv:
        for language, page in wanted.items():
            PAGES[language].write_text(page, "utf-8")
    return pages == wanted


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measured = list(measure(Path(sys.argv[-1])))
        plot(measured)
        write("measured", partial(table, measured))
    else:
        cut = sentence()
        sys.exit(not write("sentence", lambda language: cut) and "--check" in sys.argv)
