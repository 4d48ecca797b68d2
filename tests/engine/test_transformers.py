"""Greedy decoding against `transformers.generate`, token for token, on tiny random models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from malmoi.engine import Engine, SamplingParams
from malmoi.models import save_model
from malmoi.nn.stack import Decoder
from malmoi.testing.models import tiny_gpt2, tiny_llama

PROMPTS = [[5, 6, 7, 8, 9], [40], list(range(60, 83))]


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
def test_greedy_is_that_of_transformers(
    make: Callable[[], Decoder], repetition_penalty: float, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    model = make()
    save_model(model, tmp_path)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    params = SamplingParams(temperature=0, max_tokens=40, repetition_penalty=repetition_penalty)
    ours = Engine(model).generate(PROMPTS, params, stop_ids=[2])
    for prompt, generation in zip(PROMPTS, ours, strict=True):
        expected = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=40,
            repetition_penalty=repetition_penalty,
            eos_token_id=2,
            pad_token_id=0,
        )[0, len(prompt) :]
        assert generation.tokens == expected.tolist()
