"""How the model that ships in the package was made: on one GPU. `docs/lab-log.md` has the numbers behind the numbers.

`data` is a directory of the corpora that the model card names, as `.jsonl.zst` files; `runs/default_model.sh` has made
the tokenizer and the conversations of many turns. On a processor the same takes days.
"""

from pathlib import Path

from malmoi.data.sources import SourceConfig
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import Cosine, WarmupStableDecay

# Pages that are largely machine translation.
_TRANSLATED = ("MicrosoftDocs/", "sammy310/")

# What `runs/join_conversations.py` reads too.
SMALL_TALK, VERSES = ("kind=smalltalk",), ("scrollmapper/",)
PERSONA = Path(__file__).with_name("persona.jsonl")

# The batch is what DeepSeek's fit (arXiv:2401.02954, section 3.1) gives for this much arithmetic, and the rate goes
# with it: 3e-3 served batches of 8,192.
_TOKENS_PER_BATCH = 65_536
_OPTIM = OptimConfig(lr=4e-3)


def _prose(data: str, weight: float) -> SourceConfig:
    """Korean prose without the machine-translated pages."""
    return SourceConfig(path=f"{data}/pretrain-ko.jsonl.zst", weight=weight, exclude=_TRANSLATED)


def _english(data: str, weight: float) -> SourceConfig:
    return SourceConfig(path=f"{data}/pretrain-en.jsonl.zst", weight=weight)


def _chat(data: str, *, small_talk: float, other: float) -> tuple[SourceConfig, ...]:
    """Conversations without the Bible's verses, with the short everyday ones as often as their own weight says."""
    path = f"{data}/chat-ko.jsonl.zst"
    return (
        SourceConfig(
            path=path, weight=small_talk, messages_field="messages", include=SMALL_TALK, holdout_by="text"
        ),
        SourceConfig(path=path, weight=other, messages_field="messages", exclude=SMALL_TALK + VERSES),
    )


def _turns(weight: float) -> SourceConfig:
    """Short conversations joined to longer ones: an answer is to what was said last, not to what was said first."""
    return SourceConfig(
        path="out/default-turns.jsonl.zst", weight=weight, messages_field="messages", holdout_permille=0
    )


def _persona(weight: float) -> SourceConfig:
    """Who the model is and what it cannot do, in our own words."""
    return SourceConfig(path=str(PERSONA), weight=weight, messages_field="messages", holdout_permille=0)


def pretrain(data: str) -> RunConfig:
    """Korean prose with a little English, from random weights, at a constant rate: `sft` does the decay."""
    return RunConfig(
        out="out/default-pretrain",
        start=FromScratch(depth=11, max_positions=2048),
        tokenizer="out/default-tokenizer",
        sources=(_prose(data, 0.94), _english(data, 0.06)),
        total_tokens=120_782_848,
        context_length=2048,
        tokens_per_batch=_TOKENS_PER_BATCH,
        optim=_OPTIM,
        schedule=WarmupStableDecay(warmup=0.02, decay=0.0),
        eval_sources=(SourceConfig(path=f"{data}/pretrain-ko.jsonl.zst"),),
        eval_every=250,
        checkpoint_every=500,
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
            *_chat(data, small_talk=0.03, other=0.25),
            _turns(0.10),
            _persona(0.002),
            _prose(data, 0.568),
            _english(data, 0.05),
        ),
        total_tokens=72_810_496,
        context_length=2048,
        tokens_per_batch=_TOKENS_PER_BATCH,
        optim=_OPTIM,
        schedule=Cosine(warmup=0.02),
        eval_sources=(SourceConfig(path=f"{data}/pretrain-ko.jsonl.zst"),),
        eval_every=250,
        checkpoint_every=500,
    )
