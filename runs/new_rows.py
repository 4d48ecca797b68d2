"""How the rows of new tokens should begin: the figures of docs/adapt-vocabulary.md.

    python runs/new_rows.py DATA OUT
    python runs/new_rows.py DATA OUT --model DIR --add 12000 --megabytes 40 --steps 500

DATA is a directory with pretrain-ko. A model's vocabulary is expanded on the beginning of it, and each `--init` trains
on the same documents, and so does the model as it was. It prints the loss in bits a byte of all held-out text, before
and while they train: it does not depend on how text is cut. All read as many tokens; longer ones cover more text. Run
again, it goes on where it was.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from malmoi.adapt import resize
from malmoi.adapt.directory import write_adapted
from malmoi.data.sources import SourceConfig, iterate_texts
from malmoi.models import load_model
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.vocabulary.expand import expand, tokens_per_syllable
from malmoi.train.config import FromCheckpoint, RunConfig
from malmoi.train.loop import Observer, Trainer
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import WarmupStableDecay
from malmoi.weights.default import default_model

INITS = ("subword-mean", "mean", "noise")


class Told(Observer):
    """Prints each evaluation of a run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_evaluation(self, step: int, measured: Mapping[str, float]) -> None:
        print(f"{self.name:12}  step {step:4}  {measured['bits_per_byte']:.3f} bits a byte", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--add", type=int, default=4000)
    parser.add_argument(
        "--megabytes", type=float, default=20, help="of text that the new tokens are learned from"
    )
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    corpus = SourceConfig(path=str(options.data / "pretrain-ko.jsonl.zst"))
    old = Tokenizer.load(options.model)
    new = expand(old, beginning(corpus, options.megabytes), num_added=options.add)
    held_out = list(iterate_texts(corpus, split="held-out"))
    costs = [tokens_per_syllable(tokenizer, held_out) for tokenizer in (old, new)]
    print(f"{options.add:,} tokens more: {costs[0]:.3f} tokens a syllable become {costs[1]:.3f}")

    model = load_model(options.model)
    starts = {"as it was": options.model}
    for init in INITS:
        starts[init] = options.out / f"{init}-{options.add}"
        if not starts[init].exists():
            write_adapted(resize(model, old, new, init=init).model, new, starts[init], source=options.model)
    for name, start in starts.items():
        told = Told(name)
        run = RunConfig(
            out=str(options.out / f"trained-{start.name}-{options.steps}"),
            start=FromCheckpoint(path=str(start)),
            sources=(corpus,),
            eval_sources=(corpus,),
            eval_batches=10_000,
            eval_every=options.steps // 4,
            total_tokens=options.steps * 8192,
            optim=OptimConfig(lr=1e-3),
            schedule=WarmupStableDecay(warmup=0.05, decay=0.5),
            compile=False,
        )
        trainer = Trainer(run, told)
        told.on_evaluation(0, trainer.evaluate())
        trainer.run()


def beginning(corpus: SourceConfig, megabytes: float) -> Iterator[str]:
    """Texts of so many million bytes, none held out."""
    size = 0.0
    for text in iterate_texts(corpus):
        if size >= megabytes:
            return
        yield text
        size += len(text.encode()) / 1e6


if __name__ == "__main__":
    main()
