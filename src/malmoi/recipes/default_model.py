"""How the model that ships in the package was made. `docs/lab-log.md` has the experiments behind each number.

`data` is a directory of the corpora that the model card names, as `.jsonl.zst` files.
"""

from pathlib import Path

from malmoi.data.sources import SourceConfig
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import Cosine, WarmupStableDecay

# Pages that are largely machine translation.
_TRANSLATED = ("MicrosoftDocs/", "sammy310/")


def _prose(data: str, weight: float) -> SourceConfig:
    """Korean prose; machine-translated pages come in through `_translated` with a smaller weight."""
    return SourceConfig(path=f"{data}/pretrain-ko.jsonl.zst", weight=weight, exclude=_TRANSLATED)


def _translated(data: str, weight: float) -> SourceConfig:
    return SourceConfig(path=f"{data}/pretrain-ko.jsonl.zst", weight=weight, include=_TRANSLATED)


def _english(data: str, weight: float) -> SourceConfig:
    return SourceConfig(path=f"{data}/pretrain-en.jsonl.zst", weight=weight)


def _chat(data: str, *, small_talk: float, other: float) -> tuple[SourceConfig, ...]:
    """Conversations without the Bible's verses, with the short everyday ones as often as their own weight says."""
    path = f"{data}/chat-ko.jsonl.zst"
    is_small_talk, is_verse = ("kind=smalltalk",), ("scrollmapper/",)
    return (
        SourceConfig(
            path=path, weight=small_talk, messages_field="messages", include=is_small_talk, holdout_by="text"
        ),
        SourceConfig(path=path, weight=other, messages_field="messages", exclude=is_small_talk + is_verse),
    )


def _persona(weight: float) -> SourceConfig:
    """Who the model is and what it cannot do, in our own words."""
    path = str(Path(__file__).with_name("persona.jsonl"))
    return SourceConfig(path=path, weight=weight, messages_field="messages", holdout_permille=0)


def pretrain(data: str) -> RunConfig:
    """Korean prose with a little English, from random weights, at a constant rate: `sft` does the decay."""
    return RunConfig(
        out="out/default-pretrain",
        start=FromScratch(depth=8),
        tokenizer="out/default-tokenizer",
        sources=(_prose(data, 0.92), _translated(data, 0.02), _english(data, 0.06)),
        total_tokens=6_553_600,
        tokens_per_batch=8192,
        optim=OptimConfig(lr=3e-3),
        schedule=WarmupStableDecay(warmup=0.01, decay=0.0),
        eval_sources=(SourceConfig(path=f"{data}/pretrain-ko.jsonl.zst"),),
        eval_every=250,
        checkpoint_every=50,
    )


def sft(data: str) -> RunConfig:
    """Conversations among prose, while the rate decays from the peak at which pretraining left it to zero.

    The two stages share one decay, so none of the short budget is spent on annealing a model that is trained on.
    """
    return RunConfig(
        out="out/default-sft",
        start=FromCheckpoint(path="out/default-pretrain/model"),
        tokenizer="out/default-tokenizer",
        sources=(
            *_chat(data, small_talk=0.08, other=0.27),
            _persona(0.01),
            _prose(data, 0.60),
            _english(data, 0.04),
        ),
        total_tokens=8_519_680,
        context_length=1024,  # the context that it is served with; pretraining saw 512, which is cheaper
        tokens_per_batch=8192,
        optim=OptimConfig(lr=3e-3),
        schedule=Cosine(warmup=0.02),
        eval_sources=(SourceConfig(path=f"{data}/pretrain-ko.jsonl.zst"),),
        eval_every=250,
        checkpoint_every=50,
    )
