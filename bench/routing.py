"""How long a router takes to choose, by the length of the question: the overhead of the model `auto`.

    python bench/routing.py [ROUTER]      # a directory of `malmoi router train`; without one, weights of zero

What is timed is what the server does for a conversation of one message before it asks a model: reading the message, two
rules that do not hold, the features, the regression.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from malmoi.llm.prompt import ChatPrompt
from malmoi.router import Router, Rule
from malmoi.router.cost import Cost
from malmoi.router.features import NAMES, NUM_BUCKETS
from malmoi.router.router import Manifest
from malmoi.server.catalogue.routed import Routed, RoutedSettings

LENGTHS = (10, 100, 1000, 4000)
NUM_ROUNDS = 300
TEXT = Path(__file__).parents[1].joinpath("README.ko.md").read_text(encoding="utf-8")
RULES = (
    Rule(name="legal", use="strong", pattern="소송|판결문"),
    Rule(name="long", use="strong", min_characters=10**6),
)


def main() -> None:
    with TemporaryDirectory() as directory:
        if len(sys.argv) > 1:
            directory = sys.argv[1]
        else:
            blank().save(directory)
        routed = Routed(RoutedSettings(weak="weak", strong="strong", router=directory, rules=RULES))
    for length in LENGTHS:
        seconds = []
        for number in range(NUM_ROUNDS):
            text = (TEXT[number:] + TEXT)[:length]  # another one each time, so that nothing is remembered
            prompt = ChatPrompt(messages=[{"role": "user", "content": text}])
            start = time.perf_counter()
            routed.choose(prompt)
            seconds.append(time.perf_counter() - start)
        median, late = np.quantile(seconds, [0.5, 0.99]) * 1e3
        print(f"{length:>5,} characters: {median:.2f} ms at the median, {late:.2f} ms at the 99th percentile")


def blank() -> Router:
    """A router that knows nothing. It takes as long as any."""
    zeros, ones = (np.full(len(NAMES), value, dtype=np.float32) for value in (0, 1))
    manifest = Manifest(
        features=NAMES, created="", data=(), num_learned=0, num_held_out=0, dial="", gap=1.0, cost=Cost(unit="call"),
        penalty=0.0, log_loss=0.0, log_loss_of_constant=0.0, threshold=0.1,
    )  # fmt: skip
    buckets, rarity = (np.full(NUM_BUCKETS, value, dtype=np.float32) for value in (0, 1))
    return Router(
        manifest=manifest, named=zeros, mean=zeros, scale=ones, buckets=buckets, rarity=rarity, bias=0.0
    )


if __name__ == "__main__":
    main()
