"""On a GPU the engine says what it says on the CPU, and its steps are replayed there too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import malmoi
from malmoi.engine import Engine, PromptLookup, SamplingParams
from malmoi.models import build_model, initialise
from malmoi.models.gemma2 import Gemma2Config
from malmoi.models.mixtral import MixtralConfig
from malmoi.nn.kernels.packing import round_to, unround
from malmoi.nn.packed import prepack
from malmoi.nn.quantized import PRECISIONS, Quantization, quantize
from malmoi.testing.models import VOCAB_SIZE, tiny_gpt2, tiny_llama, tiny_lstm, tiny_t5

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 64, "intermediate_size": 96, "num_layers": 2, "num_heads": 4,
    "num_kv_heads": 2, "head_dim": 16, "max_positions": 256,
}  # fmt: skip


def made(config: Any) -> Any:
    return initialise(build_model(config), seed=0, std=0.3).eval()


def llama() -> Any:
    return tiny_llama(max_positions=256, hidden_size=64, intermediate_size=96, head_dim=16)


RECORDED: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "gpt2": lambda: tiny_gpt2(max_positions=256),
    "gemma2": lambda: made(Gemma2Config(**SHAPE, window=6, layer_pattern="LG")),
}
MODELS = RECORDED | {
    "lstm": lambda: tiny_lstm(max_positions=256),
    "mixtral": lambda: made(MixtralConfig(**SHAPE, num_experts=4, top_k=2)),
    "t5": tiny_t5,
}
PROMPTS = [[5, 6, 7, 8, 9], [40], list(range(60, 160)), [7] * 33, [30, 31]]


def answers(model: Any, params: SamplingParams, **options: Any) -> list[list[int]]:
    engine = Engine(model, **options)
    sources = PROMPTS if "T5" in type(model.config).__name__ else None
    prompts = [[0]] * len(PROMPTS) if sources else PROMPTS
    return [g.tokens for g in engine.generate(prompts, params, sources=sources)]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_the_same_on_a_gpu(name: str) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=24)
    on_cpu = answers(MODELS[name](), params)
    assert answers(MODELS[name]().to("cuda"), params) == on_cpu


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounded_weights_say_there_what_their_codes_stand_for(precision: str) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=24)
    plain, quantization = llama(), Quantization(precision=precision)
    for matrix in quantization.matrices_of(plain):
        rounded = round_to(quantization.precision_of(matrix), matrix.weight.detach(), 32)
        out_size, in_size = matrix.weight.shape
        matrix.weight.data.copy_(unround(rounded, out_size=out_size, in_size=in_size))
    assert answers(quantize(llama(), precision).to("cuda"), params) == answers(plain, params)


@pytest.mark.parametrize("name", RECORDED)
def test_steps_are_replayed_and_say_what_they_say_alone(name: str) -> None:
    model = RECORDED[name]().to("cuda")
    params = SamplingParams(temperature=0.0, max_tokens=40)
    engine = Engine(model, max_requests=3, tokens_per_step=16)
    together = [g.tokens for g in engine.generate(PROMPTS, params)]
    assert engine.runner.replay.recorded
    alone = [Engine(model).generate([prompt], params)[0].tokens for prompt in PROMPTS]
    assert together == alone


def test_a_seed_draws_the_same_in_any_company() -> None:
    model = llama().to("cuda")
    params = SamplingParams(
        temperature=0.9, top_p=0.8, top_k=20, seed=3, max_tokens=24, repetition_penalty=1.1
    )
    together = answers(model, params)
    assert [Engine(model).generate([prompt], params)[0].tokens for prompt in PROMPTS] == together


@pytest.mark.parametrize(
    "options",
    [{"cache_dtype": "int8"}, {"speculation": PromptLookup()}, {"cache_bytes": 2**17, "max_requests": 4}],
    ids=["int8 cache", "speculation", "preemption"],
)
def test_every_option_of_the_engine_works_there(options: dict[str, Any]) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=24)
    assert answers(llama().to("cuda"), params, **options) == answers(llama(), params, **options)


def test_packed_weights_in_bf16_say_nearly_what_fp32_says() -> None:
    tokens = torch.tensor([list(range(60, 160))])
    wide = llama()(tokens).logits
    packed = prepack(llama().bfloat16().to("cuda"))(tokens.to("cuda")).logits.float().cpu()
    assert (packed - wide).norm() / wide.norm() < 0.05


def test_a_checkpoint_is_loaded_onto_a_gpu(tmp_path: Path) -> None:
    llm = malmoi.load(device="cuda")
    assert llm.model.device.type == "cuda"
    assert llm.generate("한글은", SamplingParams(max_tokens=16, temperature=0.0)).text
