"""What guessing gains, and what `batch_invariant` costs: seconds of the same answers, each engine in turn.

bench/speculation.py ../shared/data/pretrain-ko.jsonl.zst

Prompts are the beginnings of held-out documents, and, to have something that repeats, each document read once with its
beginning again behind it. Greedy answers of 96 tokens.
"""

import argparse
import statistics
import time
from itertools import islice
from pathlib import Path

import malmoi
from malmoi.data.sources import SourceConfig, iterate_texts
from malmoi.engine import DraftModel, Engine, PromptLookup, SamplingParams
from malmoi.models import initialise, require_kind
from malmoi.models.llama import LlamaConfig, build
from malmoi.nn.stack import Decoder

ANSWER = 96


def large_llama() -> Decoder:
    """0.1 B random weights in bf16, for what does not depend on what is said."""
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=768, intermediate_size=2048, num_layers=12, num_heads=12, num_kv_heads=4,
        head_dim=64, max_positions=1024, is_tied=True,
    )  # fmt: skip
    return initialise(build(config), seed=0).bfloat16().eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", help="what `malmoi train` reads; only its held-out documents are")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, default=malmoi.default_model())
    arguments = parser.parse_args()
    tokenizer = malmoi.Tokenizer.load(arguments.model)
    model = require_kind(malmoi.load_model(arguments.model), Decoder, for_what="an answer")
    source = SourceConfig(path=arguments.text)
    texts = map(tokenizer.encode, iterate_texts(source, split="held-out"))
    documents = list(islice((ids for ids in texts if len(ids) >= 300), 16))
    tasks = {
        "new text": [ids[:200] for ids in documents],
        "repeated text": [ids[:300] + ids[:40] for ids in documents],
    }
    for name, prompts in tasks.items():
        for batch in (1, 16):
            engines = {
                "plain": Engine(model),
                "lookup of 4": Engine(model, speculation=PromptLookup()),
                "lookup of 8": Engine(model, speculation=PromptLookup(num_tokens=8)),
                "auto": Engine(model, speculation="auto"),
                "itself": Engine(model, speculation=DraftModel(model)),
            }
            race(f"{name}, {batch} at a time", engines, prompts, batch, arguments.rounds)
    large = large_llama()
    invariant = {"plain": Engine(large), "batch_invariant": Engine(large, batch_invariant=True)}
    prompts = [[index + place for place in range(200)] for index in range(16)]
    for batch in (1, 16):
        race(f"0.1 B in bf16, {batch} at a time", invariant, prompts, batch, arguments.rounds)


def race(name: str, engines: dict[str, Engine], prompts: list[list[int]], batch: int, rounds: int) -> None:
    """Print how much longer each takes than the first, of the same round; every round has other prompts."""
    params = SamplingParams(temperature=0, max_tokens=ANSWER, ignore_eos=True)
    ratios: dict[str, list[float]] = {engine: [] for engine in engines}
    first = next(iter(engines))
    for turn in range(rounds):
        seconds = {}
        for label, engine in engines.items():
            engine.refresh()  # or the prompts would be found in the cache
            begin = time.perf_counter()
            engine.generate([prompts[(turn + index) % len(prompts)] for index in range(batch)], params)
            seconds[label] = time.perf_counter() - begin
        for label in engines:
            ratios[label].append(seconds[first] / seconds[label])
    for label, engine in engines.items():
        share = engine.drafts.num_accepted / max(1, engine.drafts.num_proposed)
        low, high = min(ratios[label]), max(ratios[label])
        print(
            f"{name}: {label} x {statistics.median(ratios[label]):.2f} ({low:.2f} to {high:.2f}), "
            f"{engine.drafts.num_proposed} guessed, {share:.0%} right",
            flush=True,
        )


if __name__ == "__main__":
    main()
