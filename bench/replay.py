"""A token of decoding with recorded steps and without, in turn: what Python between the kernels costs.

`python bench/replay.py` takes the shipped model, `python bench/replay.py DIR --dtype int4` another one.
"""

import argparse

import torch

import malmoi
from malmoi.bench.workloads import Prompts
from malmoi.engine.engine import Engine
from malmoi.models import require_kind
from malmoi.nn.stack import Decoder


def milliseconds_a_token(engine: Engine, prompt: list[int], num_tokens: int) -> float:
    """The mean over the second half, when what is recorded has been."""
    params = malmoi.SamplingParams(temperature=0, max_tokens=num_tokens)
    times = engine.generate([prompt], params)[0].token_times
    half = num_tokens // 2
    return 1000 * (times[-1] - times[half]) / (num_tokens - 1 - half)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default=None, help="a directory")
    parser.add_argument("--dtype", default="bf16", help="bf16, int8 or int4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    where = arguments.model or malmoi.default_model()
    model = require_kind(malmoi.load(where, dtype=arguments.dtype).model, Decoder, for_what="a bench")
    engine, prompts = Engine(model), Prompts(model)
    best = {"called": float("inf"), "replayed": float("inf")}
    for _ in range(arguments.rounds):
        for way in best:
            engine.refresh()  # forgets what is recorded
            engine.runner.replay.can_record = way == "replayed"
            best[way] = min(best[way], milliseconds_a_token(engine, prompts.draw(32), arguments.tokens))
    print(", ".join(f"{way} {time:.2f} ms a token" for way, time in best.items()))


if __name__ == "__main__":
    main()
