"""Steps that are replayed say what the model says, to the last bit, whatever runs beside whom."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from malmoi.engine import Engine, PromptLookup, SamplingParams
from malmoi.engine.replay import NUM_KEPT
from malmoi.models import build_model, initialise
from malmoi.models.gemma2 import Gemma2Config
from malmoi.models.mixtral import MixtralConfig
from malmoi.nn.kernels import native
from malmoi.nn.packed import prepack
from malmoi.nn.quantized import quantize
from malmoi.testing.models import VOCAB_SIZE, tiny_gpt2, tiny_llama, tiny_lstm, tiny_t5

needs_kernels = pytest.mark.skipif(
    native.level() == native.TWINS, reason="there are no kernels here to record"
)

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 2,
    "num_kv_heads": 1, "head_dim": 16, "max_positions": 128,
}  # fmt: skip


def made(config: Any) -> Any:
    return initialise(build_model(config), seed=0, std=0.3).eval()


def llama() -> Any:
    return tiny_llama(max_positions=128, hidden_size=64, intermediate_size=96, head_dim=16)


MODELS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama in bf16": lambda: llama().bfloat16(),
    "packed": lambda: prepack(llama().bfloat16()),
    "int8": lambda: quantize(llama(), "int8"),
    "int4": lambda: quantize(llama(), "int4"),
    "gpt2": lambda: tiny_gpt2(max_positions=128, num_heads=2),
    "lstm": lambda: tiny_lstm(max_positions=128),
    "t5": tiny_t5,
    "gemma2": lambda: made(Gemma2Config(**SHAPE, window=6, layer_pattern="LG")),
    "mixtral": lambda: made(MixtralConfig(**SHAPE, num_experts=4, top_k=2)),
}
PROMPTS = [[(7 * i + k) % VOCAB_SIZE for i in range(3 + 5 * k)] for k in range(5)]
PARAMS = [
    SamplingParams(seed=k, temperature=0.8 * (k % 3), max_tokens=8 + 3 * k, logprobs=VOCAB_SIZE, n=1 + k % 2)
    for k in range(5)
]


def said(model: Any, *, is_replayed: bool, **options: Any) -> tuple[Engine, list[Any]]:
    """All numbers of all tokens: of five requests at once, of which one after another ends; then of one alone."""
    engine = Engine(model, block_size=4, max_requests=12, **options)
    engine.runner.replay.can_record = is_replayed
    sources = [prompt[:6] for prompt in PROMPTS] if hasattr(model, "encoder") else None
    together = engine.generate(PROMPTS, PARAMS, sources=sources)
    alone = engine.generate(PROMPTS[:1], PARAMS[:1], sources=sources and sources[:1])
    return engine, [one.choices for g in (*together, *alone) for one in (g, *g.siblings)]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("options", [{}, {"batch_invariant": True}, {"cache_dtype": "int8"}], ids=str)
def test_replayed_is_computed(make: Callable[[], Any], options: dict[str, Any]) -> None:
    model = make()
    if options.get("batch_invariant") and hasattr(model, "encoder"):
        pytest.skip("an encoder-decoder has no such option")
    _, plain = said(model, is_replayed=False, **options)
    engine, replayed = said(model, is_replayed=True, **options)
    assert replayed == plain
    assert engine.scheduler.num_blocks_in_use == 0


@needs_kernels
@pytest.mark.parametrize("make", [MODELS[name] for name in ("llama", "packed", "gpt2", "gemma2")])
def test_numbers_that_are_sent_to_other_memory_are_sent_in_each_step(make: Callable[[], Any]) -> None:
    model, params = make(), SamplingParams(temperature=0, max_tokens=24)
    found = []
    for send in (None, lambda numbers: torch.from_numpy(numbers).clone()):
        engine = Engine(model, block_size=4)
        if send is not None:  # as to a GPU
            engine.runner.send = engine.runner.replay.send = send
        found.append(engine.generate(PROMPTS[1:2], params)[0].tokens)
        assert engine.runner.replay.recorded
    assert found[0] == found[1]


@needs_kernels
@pytest.mark.parametrize("make", [MODELS[name] for name in ("llama", "packed", "int8", "gpt2")])
def test_what_repeats_is_recorded_and_little_of_it_kept(make: Callable[[], Any]) -> None:
    engine, _ = said(make(), is_replayed=True)
    assert 0 < len(engine.runner.replay.recorded) <= NUM_KEPT


@needs_kernels
def test_experts_are_chosen_anew_in_each_step() -> None:
    engine, _ = said(MODELS["mixtral"](), is_replayed=True)
    assert not engine.runner.replay.recorded
    assert not engine.runner.replay.can_record


@needs_kernels
def test_drafts_are_replayed_too() -> None:
    prompt, params = [5, 6, 7, 8] * 6, SamplingParams(temperature=0, max_tokens=30, logprobs=3)
    [plain] = Engine(llama()).generate([prompt], params)
    engine = Engine(llama(), speculation=PromptLookup(num_tokens=3))
    [guessed] = engine.generate([prompt], params)
    assert guessed.tokens == plain.tokens
    assert engine.drafts.num_proposed
    assert engine.runner.replay.recorded


@needs_kernels
def test_weights_that_change_in_place_are_seen_and_new_ones_after_a_refresh() -> None:
    model, params = llama(), SamplingParams(temperature=0, max_tokens=12)
    engine = Engine(model)

    def answer() -> list[int]:
        return engine.generate(PROMPTS[:1], params)[0].tokens

    first = answer()
    assert engine.runner.replay.recorded
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    engine.refresh()
    changed = answer()
    assert engine.runner.replay.recorded
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    engine.scheduler.forget()  # the cache alone: what is recorded reads the new numbers
    assert answer() == Engine(model).generate(PROMPTS[:1], params)[0].tokens != changed
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    assert len(answer()) == 12  # of memory that nobody else has
    engine.refresh()
    changed = answer()
    assert changed == Engine(model).generate(PROMPTS[:1], params)[0].tokens != first
    engine = Engine(model.bfloat16())
    answer()
    prepack(model)
    engine.refresh()
    assert not engine.runner.replay.recorded
    assert answer() == Engine(model).generate(PROMPTS[:1], params)[0].tokens


@needs_kernels
def test_a_nan_is_that_of_one_request() -> None:
    model = llama()
    with torch.no_grad():
        model.embedding.tokens.weight[11] = torch.nan
    engine = Engine(model)
    params = [
        SamplingParams(temperature=0, max_tokens=9),
        SamplingParams(temperature=0, max_tokens=9, logit_bias={11: 100}),
    ]
    sound, broken = (engine.add(r) for r in engine._requests(PROMPTS[:2], params, [], None))
    while sound.finish_reason is None or broken.finish_reason is None:
        engine.step()
    assert broken.finish_reason == "error"
    assert len(broken.tokens) == 1
    assert sound.finish_reason == "length"
    assert len(sound.tokens) == 9


@needs_kernels
def test_a_compiled_model_is_not_recorded_and_runs() -> None:
    code = """
from malmoi.engine import Engine, SamplingParams
from malmoi.testing.models import tiny_llama
model, params = tiny_llama(head_dim=16), SamplingParams(temperature=0, max_tokens=8)
wanted = Engine(tiny_llama(head_dim=16)).generate([[5, 6, 7]], params)[0].tokens
for block in model.blocks:
    block.compile(backend="eager")
engine = Engine(model)
assert engine.generate([[5, 6, 7]], params)[0].tokens == wanted
assert not engine.runner.replay.recorded
"""
    # In a process of its own: the compiler cannot trace the checks of shapes that tests add.
    subprocess.run([sys.executable, "-c", code], check=True)
