"""One small encoder-decoder that learns to repair text: a T5, or with `--set objective.kind=text-infilling` a BART.

`data` is a directory as `sample/` is one, with prose in `prose.*`. Its tokenizer has the tokens of both, made by
`malmoi tokenizer train --text-to-text --vocab-size 4096 --out out/text-to-text-tokenizer DATA/prose.*`.
"""

from malmoi.data.sources import SourceConfig
from malmoi.train.config import FromScratch, RunConfig
from malmoi.train.denoise_objectives import SpanCorruption
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import Cosine


def denoise(data: str, *, depth: int = 4) -> RunConfig:
    """Holes in prose, from random weights. Tokens are counted before the damage, which makes them fewer to compute."""
    prose = SourceConfig(path=f"{data}/prose.*", holdout_permille=20)
    return RunConfig(
        out="out/denoise",
        start=FromScratch(depth=depth, max_positions=512),
        tokenizer="out/text-to-text-tokenizer",
        objective=SpanCorruption(),
        sources=(prose,),
        eval_sources=(prose,),
        total_tokens=2_000_000,
        context_length=256,
        tokens_per_batch=4096,
        optim=OptimConfig(lr=4e-3),
        schedule=Cosine(warmup=0.05),
        compile=False,
    )
