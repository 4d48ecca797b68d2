"""What a cache of 8 bits costs: bits per byte of held-out text, read through the engine's cache, and the logits' error.

bench/int8_cache.py ../shared/data/pretrain-ko.jsonl.zst
"""

import argparse
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch

import malmoi
from malmoi.data.sources import SourceConfig, iterate_texts
from malmoi.engine import Engine, Generation, SamplingParams
from malmoi.models import require_kind
from malmoi.nn.cache import KeyValueSpec, PagedCache
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.nn.stack import Decoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", help="what `malmoi train` reads; only its held-out documents are")
    parser.add_argument("--model", type=Path, default=malmoi.default_model())
    parser.add_argument("--documents", type=int, default=200)
    arguments = parser.parse_args()
    tokenizer = malmoi.Tokenizer.load(arguments.model)
    loaded = require_kind(malmoi.load_model(arguments.model), Decoder, for_what="scoring")
    length = loaded.max_positions - 1
    source = SourceConfig(path=arguments.text)
    texts = list(islice(iterate_texts(source, split="held-out"), arguments.documents))
    prompts = [tokenizer.encode(text)[:length] for text in texts]
    prompts = [prompt for prompt in prompts if len(prompt) > 1]
    num_bytes = sum(len(tokenizer.decode_bytes(prompt[1:])) for prompt in prompts)
    print(f"{arguments.model.name}, {loaded.dtype}, {len(prompts)} documents, {num_bytes:,} bytes")
    whole, small = (scored(loaded, prompts, cache_dtype) for cache_dtype in (None, "int8"))
    for name, bits in (("in the activations' precision", whole), ("int8", small)):
        print(f"cache {name}: {sum(bits) / num_bytes:.4f} bits per byte")
    errors = torch.tensor(small) - torch.tensor(whole)
    print(f"a token's bits are off by {errors.abs().mean():.4f} on average, {errors.abs().max():.3f} at most")
    specs = [spec for spec in loaded.cache_specs() if isinstance(spec, KeyValueSpec)]
    for kind in (PagedCache, Int8PagedCache):
        print(
            f"{kind.__name__}: {sum(kind.bytes_per_token(s, loaded.dtype.itemsize) for s in specs)} bytes a token"
        )


def scored(model: Decoder, prompts: Sequence[Sequence[int]], cache_dtype: str | None) -> list[float]:
    """The bits of each token that has one before it."""
    engine = Engine(model, cache_dtype=cache_dtype)
    params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=True)
    return [bits for generation in engine.generate(prompts, params) for bits in bits_of(generation)]


def bits_of(generation: Generation) -> list[float]:
    return [-c.chosen.logprob / math.log(2) for c in generation.prompt_choices if c.chosen is not None]


if __name__ == "__main__":
    main()
