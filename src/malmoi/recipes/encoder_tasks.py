"""Three runs of one small encoder: fill gaps, then tell how a review is meant, and how near two sentences are.

`data` is a directory with `tasks/nsmc.*` (reviews with the label 0 or 1) and `tasks/korsts.*` (pairs with a score of 0
to 5), each in a `train` and a `dev` file, and Korean prose in `pretrain-ko.*`. `runs/encoder_tasks.sh` tells the
story from the tokenizer to the scores.
"""

from malmoi.data.sources import SourceConfig
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.train.encoder_objectives import Labels, MaskedToken, Similarity
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import Cosine

# Reviews are in NSMC's own file; the raw crawl behind it may hold those that are tested on.
_RAW_REVIEWS = ("e9t/nsmc",)


def mlm(data: str, *, depth: int = 4) -> RunConfig:
    """Gaps in reviews, prose and KorSTS's sentences, from random weights.

    Of a short run's tokens 30 % are hidden, not 15 %: each step then has twice the targets. More than 15 % is better
    for large models too (Wettig et al. 2022, arXiv:2202.08005).
    """
    reviews = SourceConfig(path=f"{data}/tasks/nsmc.train.*", weight=0.5, holdout_by="text")
    sentences = [
        SourceConfig(path=f"{data}/tasks/korsts.train.*", weight=0.1, text_field=field)
        for field in ("s1", "s2")
    ]
    prose = SourceConfig(path=f"{data}/pretrain-ko.*", weight=0.3, exclude=_RAW_REVIEWS)
    return RunConfig(
        out="out/mlm",
        start=FromScratch(depth=depth, max_positions=256),
        tokenizer="out/encoder-tokenizer",
        objective=MaskedToken(rate=0.3),
        sources=(reviews, *sentences, prose),
        eval_sources=(reviews,),
        total_tokens=1_200_000,
        context_length=256,
        tokens_per_batch=2048,
        optim=OptimConfig(lr=4e-3),
        schedule=Cosine(warmup=0.05),
        compile=False,
    )


def classify(data: str) -> RunConfig:
    """Is a review for the film or against it? A little more than one pass over NSMC."""
    return RunConfig(
        out="out/classify",
        start=FromCheckpoint(path="out/mlm/model"),
        objective=Labels(labels=("부정", "긍정")),
        sources=(_nsmc(data, "train", holdout_permille=0),),
        eval_sources=(_nsmc(data, "dev", holdout_permille=1000),),
        total_tokens=3_600_000,
        context_length=256,
        tokens_per_batch=2048,
        optim=OptimConfig(lr=1e-3),
        schedule=Cosine(warmup=0.05),
        eval_every=600,
        eval_batches=1000,  # all of it
        compile=False,
    )


def similarity(data: str) -> RunConfig:
    """How near are two sentences? Six passes over KorSTS."""
    return RunConfig(
        out="out/similarity",
        start=FromCheckpoint(path="out/mlm/model"),
        objective=Similarity(),
        sources=(_korsts(data, "train", holdout_permille=0),),
        eval_sources=(_korsts(data, "dev", holdout_permille=1000),),
        total_tokens=1_200_000,
        context_length=256,
        tokens_per_batch=2048,
        optim=OptimConfig(lr=1e-3),
        schedule=Cosine(warmup=0.05),
        eval_every=100,
        eval_batches=1000,
        compile=False,
    )


def _korsts(data: str, split: str, *, holdout_permille: int) -> SourceConfig:
    return SourceConfig(
        path=f"{data}/tasks/korsts.{split}.*", text_field="s1", pair_field="s2", label_field="score",
        holdout_permille=holdout_permille,
    )  # fmt: skip


def _nsmc(data: str, split: str, *, holdout_permille: int) -> SourceConfig:
    return SourceConfig(
        path=f"{data}/tasks/nsmc.{split}.*", label_field="label", holdout_permille=holdout_permille
    )
