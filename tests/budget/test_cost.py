"""What a budget says is what there is: counted, published, and measured."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from malmoi.budget.cost import (
    TOKENS_PER_STEP,
    cache_bytes,
    decode_flops,
    forward_bytes,
    generation_bytes,
    on_paper,
    parameter_count,
    weight_bytes,
)
from malmoi.budget.example import example_inputs
from malmoi.budget.forwards import rehearse_forward
from malmoi.budget.rehearsal import Rehearsal
from malmoi.models import build_model, llama, save_model
from malmoi.models.quantized_files import tensors_of
from malmoi.models.registry import find_preset, preset_names
from malmoi.nn.cache import KeyValueSpec, PagedCache
from malmoi.nn.context import Context
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.nn.quantized import Quantization, quantize
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.train.optim import OptimConfig
from malmoi.train.plan import example_loss, training_bytes

# name -> total, active for a token (None: all), how near, where it is published
PUBLISHED: dict[str, tuple[float, float | None, float, str]] = {
    "gpt2": (124_439_808, None, 0, "the checkpoint; 124M in its model card"),
    "llama3-8b": (8_030_261_248, None, 0, "the checkpoint; 8.03B in its model card"),
    "mistral-7b": (7_241_732_096, None, 0, "the checkpoint; 7.24B in its model card"),
    "mixtral-8x7b": (46.7e9, 12.9e9, 0.01, "mistral.ai/news/mixtral-of-experts"),
    "deepseek-v3": (671e9, 37e9, 0.02, "arXiv:2412.19437, abstract"),
    "deepseek-v2-lite": (15.7e9, 2.4e9, 0.15, "arXiv:2405.04434, appendix B: 15.7B, 2.4B without tables"),
    "qwen3-8b": (8.2e9, None, 0.01, "the model card: 8.2B, 6.95B without embeddings"),
    "qwen3-0.6b": (0.6e9, None, 0.01, "the model card: 0.6B"),
    "qwen3-30b-a3b": (30.5e9, 3.3e9, 0.02, "the model card: 30.5B, 3.3B activated"),
    "phi3-mini-4k": (3.8e9, None, 0.01, "arXiv:2404.14219, abstract"),
    "bert-base": (110e6, None, 0.01, "arXiv:1810.04805, section 3"),
    "t5-small": (60e6, None, 0.01, "arXiv:1910.10683, section 3.7"),
    "transformer-base": (65e6, None, 0.05, "arXiv:1706.03762, table 3; our vocabulary is rounded"),
    "transformer-big": (213e6, None, 0.05, "arXiv:1706.03762, table 3; our vocabulary is rounded"),
    "whisper-tiny": (39e6, None, 0.04, "arXiv:2212.04356, table 1"),
    "whisper-base": (74e6, None, 0.02, "arXiv:2212.04356, table 1"),
    "whisper-small": (244e6, None, 0.01, "arXiv:2212.04356, table 1"),
    "whisper-medium": (769e6, None, 0.01, "arXiv:2212.04356, table 1"),
    "whisper-large": (1550e6, None, 0.01, "arXiv:2212.04356, table 1"),
}


# DeepSeek-V3 has 45,000 modules, which take their time to be made.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "deepseek-v3" else name for name in PUBLISHED],
)
def test_presets_have_the_published_sizes(name: str) -> None:
    total, active, tolerance, _source = PUBLISHED[name]
    counted = parameter_count(on_paper(find_preset(name)))
    assert counted.total == pytest.approx(total, rel=tolerance)
    assert counted.active == pytest.approx(active or total, rel=tolerance)


@pytest.mark.slow
def test_every_preset_can_be_built() -> None:
    for name in preset_names():
        assert parameter_count(on_paper(find_preset(name))).total > 1e6


def test_a_dense_token_costs_two_operations_a_weight_and_four_a_cached_number() -> None:
    """The rule of Kaplan et al. 2020, arXiv:2001.08361, section 2.1, with attention over the context."""
    config = find_preset("llama3-8b")
    model = on_paper(config)
    matrices = (
        sum(p.numel() for p in model.parameters() if p.ndim == 2) - model.embedding.tokens.weight.numel()
    )
    for length in (1, 1000):
        attention = 4 * length * config.num_heads * config.head_dim * config.num_layers
        assert decode_flops(model, length) == 2 * matrices + attention


def test_a_written_token_does_not_pay_for_its_source_again() -> None:
    """Keys and values of the source are stored: what is left is to attend to them, as to the tokens before."""
    model = on_paper(find_preset("transformer-base"))
    assert isinstance(model, EncoderDecoder)
    matrices = model.head.weight.numel() + sum(
        parameter.numel()
        for name, parameter in model.decoder.blocks.named_parameters()
        if parameter.ndim == 2 and not name.endswith(("cross.mixer.k.weight", "cross.mixer.v.weight"))
    )
    for length in (1, 100):
        attention = 4 * (length + length) * model.config.hidden_size * model.config.num_layers
        assert decode_flops(model, length) == 2 * matrices + attention


def test_operations_are_those_that_pytorch_counts(case: Any) -> None:
    """A real forward, with attention as the matrix products that PyTorch can count."""
    model = build_model(case.config).eval().requires_grad_(False)
    if any(not isinstance(spec, KeyValueSpec) for spec in model.cache_specs()):
        pytest.skip("PyTorch does not look into its fused recurrences")
    inputs = example_inputs(model, 12)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**inputs)
    assert rehearse_forward(on_paper(case.config), 12).flops == counter.get_total_flops()


@pytest.mark.parametrize("length", [9, 12])  # a rolling buffer is whole from the start
def test_caches_hold_as_many_bytes_as_is_said(decoder_case: Any, length: int) -> None:
    model = on_paper(decoder_case.config)
    caches = model.new_caches()
    with torch.no_grad(), Rehearsal() as rehearsal:
        for position in range(length):
            token = torch.zeros(1, 1, dtype=torch.long)
            context = Context.dense(token, specs=model.cache_specs(), caches=caches, num_cached=position)
            model.hidden(token, context)
        del token, context
        held = rehearsal.num_bytes
    assert held == cache_bytes(model.cache_specs(), length, element_size=4)


def test_a_step_is_wide_enough_for_a_token_of_every_sequence() -> None:
    """As the engine's is: 512 tokens, or as many as there are sequences."""
    model = on_paper(llama.sized(2, vocab_size=256, max_positions=64))
    fewer, more = (generation_bytes(model, 32, batch=batch) for batch in (TOKENS_PER_STEP, 600))
    cached = cache_bytes(model.cache_specs(), 32, element_size=4)
    assert (more - fewer) / (600 - TOKENS_PER_STEP) == pytest.approx(cached, rel=0.2)


# --- measured ----------------------------------------------------------------------------------------------

GROWTH = {"vocab_size": 256, "num_heads": 8, "num_kv_heads": 8, "num_decoder_heads": 8, "head_dim": 4}


def grown(config: Any) -> Any:
    """A tiny configuration, wide enough that its weights take some 100 MB."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not field.name.startswith("rope"):
            changes[field.name] = grown(value)
        elif field.name in GROWTH and value:
            changes[field.name] = value * GROWTH[field.name]
        elif field.name in ("hidden_size", "intermediate_size", "decoder_intermediate_size"):
            changes[field.name] = value * 32
        elif field.name == "max_positions":
            # Sounds stay short: the buffers of a convolution's own kernel are not counted.
            changes[field.name] = 100 if hasattr(config, "num_mels") else 1024
    return dataclasses.replace(config, **changes)


LENGTH = 640  # as in measure_memory.py


@pytest.fixture(scope="module")
def measured(all_cases: list[Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """What the first model of each family took, by the name of its case."""
    directory = tmp_path_factory.mktemp("grown")
    jobs: list[str] = []
    for case in first_of_families(all_cases):
        save_model(build_model(grown(case.config)), directory / case.name)
        jobs.append(str(directory / case.name))
    program = Path(__file__).parent / "measure_memory.py"
    # Large tensors go back to the system when they are freed, and the first model is measured twice.
    allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, str(program), *jobs], capture_output=True, text=True, env=os.environ | allocator
    )
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" ", 2) for line in done.stdout.splitlines()]
    return {Path(path).name: [int(generation), int(training)] for path, generation, training in lines}


def first_of_families(all_cases: list[Any]) -> Iterator[Any]:
    seen = set()
    for case in all_cases:
        if type(case.config) not in seen:
            seen.add(type(case.config))
            yield case


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_peaks_are_within_five_percent_of_the_measured(
    all_cases: list[Any], measured: dict[str, list[int]]
) -> None:
    wrong = {}
    for case in first_of_families(all_cases):
        model = on_paper(grown(case.config))
        peak = generation_bytes if isinstance(model, Decoder | EncoderDecoder) else forward_bytes
        loss: Callable[[Any], Any] = lambda twin: example_loss(twin, 256, batch=2)  # noqa: E731
        estimates = [peak(model, LENGTH), training_bytes(model, OptimConfig(kind="adamw"), loss)]
        for what, estimate, found in zip(
            ("running", "training"), estimates, measured[case.name], strict=True
        ):
            if abs(estimate / found - 1) > 0.05:
                wrong[f"{case.name}, {what}"] = f"{estimate / found - 1:+.1%}"
    assert not wrong


def test_weights_are_counted_in_their_own_precision() -> None:
    config = find_preset("gpt2")
    assert weight_bytes(on_paper(config, torch.bfloat16)) * 2 == weight_bytes(on_paper(config))


@pytest.mark.parametrize(
    "name",
    ["qwen3-0.6b", "llama3-8b", "whisper-tiny", pytest.param("deepseek-v2-lite", marks=pytest.mark.slow)],
)
def test_packed_weights_are_counted_as_they_lie(name: str) -> None:
    """As on a model that was rounded, so on one that is going to be; beside the weights nothing changes."""
    config = find_preset(name)
    plain, rounded = (on_paper(config, torch.bfloat16) for _ in range(2))
    quantize(rounded, "int4", group_size=64)
    assert weight_bytes(rounded) == weight_bytes(plain, Quantization(precision="int4", group_size=64))
    assert weight_bytes(rounded) == sum(tensor.nbytes for tensor in tensors_of(rounded).values())
    assert parameter_count(rounded) == parameter_count(plain)
    saved = weight_bytes(plain) - weight_bytes(rounded)
    assert generation_bytes(plain, 128) - generation_bytes(rounded, 128) == saved
    assert decode_flops(plain, 128) == decode_flops(rounded, 128)


def test_a_cache_of_eight_bits_has_its_scales() -> None:
    specs = [KeyValueSpec(num_kv_heads=2, head_dim=64)] * 3
    for cache, a_head in ((PagedCache, 2 * 64 * 2), (Int8PagedCache, 2 * (64 + 4))):
        assert cache_bytes(specs, 10, element_size=2, paged_cache=cache) == 3 * 10 * 2 * a_head
