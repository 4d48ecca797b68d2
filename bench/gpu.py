"""The engine on a GPU: a Llama of 8 B random weights against the memory's limit, and against transformers one by one.

    python bench/gpu.py [--layers 32] [--dtype int8]

Prints what the memory gives (the best of a read and a copy), then how fast one sequence decodes and what share of the
limit that is, a prompt, and many requests at once beside transformers' `generate` with one after the other, over the
same weights. The targets are those of docs/performance.md.
"""

import argparse
import statistics
import time
from dataclasses import replace
from itertools import pairwise

import torch

from malmoi import Engine, SamplingParams
from malmoi.models import build_model
from malmoi.models.llama import LlamaConfig, llama3_8b
from malmoi.nn.packed import prepack
from malmoi.nn.quantized import PRECISIONS, quantize
from malmoi.nn.stack import Model

PROMPT, NEW, REQUESTS = 128, 256, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--dtype", choices=["bf16", *PRECISIONS], default="bf16", help="of the weights")
    parser.add_argument("--without-peer", action="store_true")
    options = parser.parse_args()
    config = replace(llama3_8b(), num_layers=options.layers)
    print(torch.cuda.get_device_name(), torch.__version__)
    bandwidth = measure_bandwidth()
    print(f"memory                   {bandwidth / 1e12:.2f} TB/s")
    model = random_model(config)
    one_by_one = None if options.without_peer else measure_transformers(model)
    model = prepack(model) if options.dtype == "bf16" else quantize(model, options.dtype)
    engine = Engine(
        model, max_requests=REQUESTS, tokens_per_step=4096, cache_bytes=8 * 2**30, prefix_caching=False
    )
    decode(engine, bandwidth)
    prefill(engine)
    serve(engine, one_by_one)


def measure_bandwidth() -> float:
    """Bytes a second, the best of reading and of copying 4 GB."""
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    read = source.nbytes / seconds_of(lambda: torch.sum(source))
    copied = 2 * source.nbytes / seconds_of(lambda: target.copy_(source))
    return max(read, copied)


def seconds_of(function, *, repeats: int = 10) -> float:
    """The median, by the GPU's own clock."""
    function()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def random_model(config: LlamaConfig) -> Model:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = build_model(config)
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1.0 if "embedding" in name else parameter.shape[-1] ** -0.5)
    return model.to("cuda").eval()


def measure_transformers(model: Model) -> float:
    """Tokens a second of `generate`, greedily, one request after the other; the weights are the same."""
    import transformers

    from malmoi.models.registry import family_of

    family = family_of(model.config)
    keys = family.write_config(model.config)
    config = transformers.LlamaConfig(
        **{k: v for k, v in keys.items() if k not in ("model_type", "architectures")}
    )
    with torch.device("meta"):
        peer = transformers.LlamaForCausalLM(config)
    tensors = family.rules(model.config).export(dict(model.state_dict()))
    peer.load_state_dict(tensors, strict=False, assign=True)
    peer.model.rotary_emb = type(peer.model.rotary_emb)(config).to("cuda")
    peer = peer.eval().bfloat16()
    peer.generation_config.pad_token_id = 0
    peer.generation_config.eos_token_id = None
    prompts = made_up_prompts(3)

    def answer(prompt: list[int]) -> list[int]:
        ids = torch.tensor([prompt], device="cuda")
        said = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
        return peer.generate(ids, attention_mask=torch.ones_like(ids), **said)[0, len(prompt) :].tolist()

    answer(prompts[0])
    begin = time.perf_counter()
    for prompt in prompts[1:]:
        answer(prompt)
    rate = (len(prompts) - 1) * NEW / (time.perf_counter() - begin)
    print(f"transformers {transformers.__version__}      {rate:.1f} tokens/s, one by one")
    return rate


def made_up_prompts(number: int, length: int = PROMPT) -> list[list[int]]:
    torch.manual_seed(1)
    return torch.randint(1000, 100_000, (number, length)).tolist()


def decode(engine: Engine, bandwidth: float) -> None:
    """One sequence. A step reads every weight but the table of embeddings, and the keys that there are."""
    model = engine.model
    table = model.embedding.tokens if hasattr(model.embedding, "tokens") else model.embedding
    num_bytes = sum(x.nbytes for x in [*model.parameters(), *model.buffers()])
    num_bytes -= sum(x.nbytes for x in [*table.parameters(), *table.buffers()])
    params = SamplingParams(max_tokens=NEW, temperature=0.0)
    [prompt] = made_up_prompts(1)
    engine.generate([prompt], params)
    times = []
    for _token in engine.stream(prompt, params):
        times.append(time.perf_counter())
    step = statistics.median(after - before for before, after in pairwise(times[16:]))
    limit = num_bytes / bandwidth
    print(
        f"decode, one sequence     {1 / step:.1f} tokens/s, {1000 * step:.2f} ms a step; the limit of "
        f"{num_bytes / 1e9:.1f} GB is {1000 * limit:.2f} ms: {limit / step:.0%} (80 %)"
    )


def prefill(engine: Engine) -> None:
    for length in (512, 4096):
        prompts = made_up_prompts(4, length)
        params = SamplingParams(max_tokens=1, temperature=0.0)
        engine.generate([prompts[0]], params)
        times = []
        for prompt in prompts[1:]:
            begin = time.perf_counter()
            engine.generate([prompt], params)
            times.append(time.perf_counter() - begin)
        print(f"prompt of {length:<5}          {length / statistics.median(times):,.0f} tokens/s")


def serve(engine: Engine, one_by_one: float | None) -> None:
    prompts = made_up_prompts(REQUESTS)
    params = SamplingParams(max_tokens=NEW, temperature=0.0)
    engine.generate(prompts, SamplingParams(max_tokens=8, temperature=0.0))
    begin = time.perf_counter()
    engine.generate(prompts, params)
    rate = REQUESTS * NEW / (time.perf_counter() - begin)
    ratio = "" if one_by_one is None else f", x {rate / one_by_one:.1f} transformers one by one (x 10)"
    print(f"{REQUESTS} requests at once      {rate:,.0f} tokens/s{ratio}")


if __name__ == "__main__":
    main()
