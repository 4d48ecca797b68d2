"""What the unit of text does to a model: the figures of "Does it pay to learn from morphemes?" in docs/tokenizers.md.

    python runs/units.py DATA OUT

DATA is a directory with pretrain-ko. Tokenizers of one size are learned from the beginning of it, by BPE, by BPE
inside morphemes and by Unigram, and a small model is trained with each: for as many tokens, which cost the same, and,
where these are shorter, once more for as much text. It prints the loss in bits a byte of all held-out text, which does
not depend on how text is cut. Run again, it goes on where it was.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from malmoi.data.sources import SourceConfig, iterate_texts
from malmoi.text import training
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.vocabulary.expand import tokens_per_syllable
from malmoi.train.config import FromScratch, RunConfig
from malmoi.train.loop import Observer, Trainer
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import WarmupStableDecay

UNITS = {
    "bpe": training.train_bpe,
    "morpheme": training.train_morpheme_bpe,
    "unigram": training.train_unigram,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--documents", type=int, default=3000, help="that the tokenizers are learned from")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=2_457_600)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the model's weights and the order of documents"
    )
    options = parser.parse_args()
    corpus = SourceConfig(path=str(options.data / "pretrain-ko.jsonl.zst"))
    held_out = list(iterate_texts(corpus, split="held-out"))

    costs: dict[str, float] = {}
    for name, train in UNITS.items():
        directory = options.out / f"{name}-{options.vocab_size}"
        if not directory.exists():
            texts = islice(iterate_texts(corpus), options.documents)
            train(texts, vocab_size=options.vocab_size).save(directory)
        costs[name] = tokens_per_syllable(Tokenizer.load(directory), held_out)
        for of_what, tokens in runs(options.tokens, costs[name] / costs["bpe"]):
            run = RunConfig(
                out=str(
                    options.out
                    / f"{directory.name}-depth-{options.depth}-tokens-{tokens}-seed-{options.seed}"
                ),
                start=FromScratch(depth=options.depth),
                tokenizer=str(directory),
                sources=(corpus,),
                eval_sources=(corpus,),
                eval_batches=10_000,
                eval_every=10_000,
                total_tokens=tokens,
                optim=OptimConfig(lr=4e-3),
                schedule=WarmupStableDecay(warmup=0.02, decay=0.4),
                compile=False,
                seed=options.seed,
            )
            trainer = Trainer(run, Observer())
            trainer.run()
            loss = trainer.evaluate()["bits_per_byte"]
            print(
                f"{name:9} {costs[name]:.3f} tokens a syllable, {tokens:,} tokens ({of_what}): "
                f"{loss:.3f} bits a byte",
                flush=True,
            )


def runs(tokens: int, relative_cost: float) -> Iterator[tuple[str, int]]:
    """The tokens that a unit reads: as many as all, and if it cuts finer than BPE, for as much text as BPE reads."""
    yield "as many", tokens
    if relative_cost > 1:
        yield "as much text", round(tokens * relative_cost)


if __name__ == "__main__":
    main()
