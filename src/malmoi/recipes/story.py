"""The whole story on a small corpus: what `runs/speedrun.sh` runs, sized by its one dial, `--depth`.

`data` is a directory as `sample/` is one: `prose.*` with rows of `text`, `chat.*` with rows of `messages`, and,
if there are translations, `pairs.*` with rows of `ko` and `en`; `.jsonl`, `.txt` or `.parquet`, compressed or not.
"""

from pathlib import Path

from malmoi.data.sources import SourceConfig
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import Cosine, WarmupStableDecay

# A layer is 32 wide for each layer there is (`models.llama.sized`), and has 12 numbers for each pair of its width.
PARAMETERS_PER_DEPTH_CUBED = 12 * 32**2
TOKENS_PER_PARAMETER = 20


def pretrain(data: str, *, depth: int = 4) -> RunConfig:
    """Prose, and a tenth translations, from random weights.

    The budget is 20 tokens for each parameter of the layers, where model and data are in balance for the
    computation they cost (Hoffmann et al. 2022, arXiv:2203.15556, section 3): 16 million for a depth of 4.
    A corpus is read again when it ends; up to four times that is nearly as good as new text (Muennighoff et
    al. 2023, arXiv:2305.16264, section 5), so give a deeper model more text.
    """
    prose = _prose(data, 0.9)
    return RunConfig(
        out="out/pretrain",
        start=FromScratch(depth=depth),
        tokenizer="out/tokenizer",
        sources=(prose, *_pairs(data, 0.1)),
        eval_sources=(prose,),
        total_tokens=TOKENS_PER_PARAMETER * PARAMETERS_PER_DEPTH_CUBED * depth**3,
        optim=OptimConfig(lr=4e-3),
        schedule=WarmupStableDecay(warmup=0.02, decay=0.4),
    )


def sft(data: str, *, depth: int = 4) -> RunConfig:
    """Conversations on top of it, with some prose so that the language stays."""
    prose = _prose(data, 0.3)
    chat = SourceConfig(
        path=f"{data}/chat.*", weight=0.7, messages_field="messages", holdout_permille=20, holdout_by="text"
    )
    return RunConfig(
        out="out/sft",
        start=FromCheckpoint(path="out/pretrain/model"),
        sources=(chat, prose),
        eval_sources=(chat,),
        total_tokens=200_000 * depth,
        optim=OptimConfig(lr=1e-3),
        schedule=Cosine(warmup=0.05),
    )


def _prose(data: str, weight: float) -> SourceConfig:
    return SourceConfig(path=f"{data}/prose.*", weight=weight, holdout_permille=20)


def _pairs(data: str, weight: float) -> list[SourceConfig]:
    """A sentence and its translation, one below the other."""
    if not any(Path(data).glob("pairs.*")):
        return []
    return [SourceConfig(path=f"{data}/pairs.*", weight=weight, format="{ko}\n{en}")]
