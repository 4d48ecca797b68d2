"""Choosing the next tokens of a batch, against `transformers`' processors: the same parameters, the same logits.

Ours takes each request's own parameters, counts what it has said, and draws by its own number; the peer has one set for
all rows. Processor time of this thread, so that neighbours on the machine do not count.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.generation import logits_process as theirs

from malmoi.engine import Generation, Request, SamplingParams
from malmoi.engine.sampling import sample

CASES: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"temperature": 0},
    "temperature": {"temperature": 0.7},
    "top_k": {"temperature": 0.7, "top_k": 50},
    "top_p": {"temperature": 0.7, "top_p": 0.9},
    "min_p": {"temperature": 0.7, "min_p": 0.05},
    "typical_p": {"temperature": 0.7, "typical_p": 0.9},
    "all": {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1},
}
PROCESSORS: Mapping[str, Callable[[Any], Any]] = {
    "repetition_penalty": theirs.RepetitionPenaltyLogitsProcessor,
    "temperature": theirs.TemperatureLogitsWarper,
    "top_k": theirs.TopKLogitsWarper,
    "top_p": theirs.TopPLogitsWarper,
    "min_p": theirs.MinPLogitsWarper,
    "typical_p": theirs.TypicalLogitsWarper,
}  # in the order of `transformers`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=150_000)
    parser.add_argument("--length", type=int, default=600, help="tokens of each prompt")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logits = torch.randn(arguments.batch, arguments.vocab) * 3
    prompts = torch.randint(arguments.vocab, (arguments.batch, arguments.length))
    print(
        f"{arguments.batch} rows of {arguments.vocab}, one thread, medians of {arguments.rounds} rounds in turn"
    )
    print(f"{'':12} {'ours, ms':>9} {'peer, ms':>9} {'ratio':>7}")
    for name, params in CASES.items():
        generations = [
            Generation(Request(tokens=prompt, params=SamplingParams(seed=row, **params)))
            for row, prompt in enumerate(prompts.tolist())
        ]
        ours: list[float] = []
        peer: list[float] = []
        for _ in range(arguments.rounds):
            ours.append(_milliseconds(lambda: sample(logits, generations)))  # noqa: B023
            peer.append(_milliseconds(lambda: peers_choice(logits, prompts, params)))  # noqa: B023
        ratio = statistics.median(slow / fast for fast, slow in zip(ours, peer, strict=True))
        print(
            f"{name:12} {statistics.median(ours):9.1f} {statistics.median(peer):9.1f} {ratio:7.1f}",
            flush=True,
        )


def peers_choice(logits: Tensor, prompts: Tensor, params: Mapping[str, Any]) -> Tensor:
    if params["temperature"] == 0:
        return logits.argmax(dim=-1)
    scores = logits.clone()
    for name, processor in PROCESSORS.items():
        if name in params:
            scores = processor(params[name])(prompts, scores)
    return torch.multinomial(scores.softmax(dim=-1), 1)


def _milliseconds(action: Callable[[], object]) -> float:
    began = time.thread_time()
    action()
    return 1000 * (time.thread_time() - began)


if __name__ == "__main__":
    main()
