"""Training speed: our step as recipes run it, against `transformers` in a plain PyTorch loop.

The same Llama from the same weights, the same tokens of the sample corpus in a step, bf16 arithmetic in both where
the processor has it. The peer gets what its users write: rows of one length, `torch.autocast`, the model's own loss,
fused AdamW. Ours is the recipe's: documents packed without attention across them, compiled, chunked loss, Muon.
`--eager` and `--adamw` take the last ones away. The target is a median ratio of 1.5.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import tee
from pathlib import Path

import torch
from interleave import measure_ratio
from transformers import AutoModelForCausalLM

from malmoi.data.pack import PackedBatch, PackedStream
from malmoi.data.sources import iterate_texts
from malmoi.models import count_parameters, save_model
from malmoi.recipes import make_run
from malmoi.text.training import train_bpe
from malmoi.train.config import RunConfig
from malmoi.train.loop import Observer, Trainer

SAMPLE = str(Path(__file__).parents[1] / "sample")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--length", type=int, default=512, help="tokens a row; context length of ours")
    parser.add_argument("--rows", type=int, default=16, help="rows a step")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--eager", action="store_true", help="do not compile ours")
    parser.add_argument("--adamw", action="store_true", help="AdamW instead of Muon in ours")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(describe_run(arguments, Path(folder)), Observer())
        save_model(trainer.model, Path(folder) / "model")
        peer = AutoModelForCausalLM.from_pretrained(Path(folder) / "model", dtype=torch.float32)
    assert count_parameters(trainer.model) == peer.num_parameters()
    run, threads = trainer.config, torch.get_num_threads()
    print(
        f"{peer.num_parameters() / 1e6:.1f}M parameters, {run.tokens_per_step:,} tokens a step, {threads} threads"
    )
    for_ours, for_peer = tee(
        PackedStream(
            run.sources,
            trainer.encoder,
            tokens_per_batch=run.tokens_per_batch,
            context_length=run.context_length,
        )
    )
    ours, theirs = our_step(trainer, for_ours), plain_step(peer, run, trainer.model.compute_dtype, for_peer)
    for _ in range(2):  # compile, and fill the optimisers
        print(f"loss: ours {ours():.4f}, peer {theirs():.4f}", flush=True)
    measure_ratio(ours, theirs, rounds=arguments.rounds, label="training step")


def describe_run(arguments: argparse.Namespace, folder: Path) -> RunConfig:
    """The recipe's own run, in the size that was asked for, with a tokenizer trained on the sample."""
    run = make_run("pretrain", SAMPLE, depth=arguments.depth)
    train_bpe(iterate_texts(run.sources), vocab_size=arguments.vocab_size).save(folder / "tokenizer")
    return replace(
        run,
        out=str(folder / "out"),
        tokenizer=str(folder / "tokenizer"),
        tokens_per_batch=arguments.rows * arguments.length,
        context_length=arguments.length,
        optim=replace(run.optim, kind="adamw" if arguments.adamw else "muon"),
        eval_sources=(),
        compile=not arguments.eager,
    )


def our_step(trainer: Trainer, batches: Iterator[PackedBatch]) -> Callable[[], float]:
    def step() -> float:
        batch = next(batches)
        loss = trainer.accumulate([batch]).item()
        trainer.optimizers.clip()
        trainer.optimizers.step()
        return loss / batch.tokens.numel()

    return step


def plain_step(
    model: torch.nn.Module, run: RunConfig, dtype: torch.dtype | None, batches: Iterator[PackedBatch]
) -> Callable[[], float]:
    adamw = torch.optim.AdamW(model.train().parameters(), lr=run.optim.lr, fused=True)

    def step() -> float:
        rows = next(batches).tokens.view(-1, run.context_length)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.optim.clip_norm)
        adamw.step()
        adamw.zero_grad()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    main()
