"""Malmoi itself, through the face that everybody has: `load`, and the engine within."""

import time
from typing import Any

import torch
from peers.protocol import Peer, answer

import malmoi
from malmoi.bench.work import stored
from malmoi.engine import Request, SamplingParams


class Malmoi(Peer):
    """Our engine in this process."""

    def load(self, model: str, precision: str, threads: int) -> dict[str, Any]:
        torch.set_num_threads(threads)
        llm = malmoi.load(model, dtype=precision)
        self.model, self.engine = llm.model, llm.engine
        weights = sum(tensor.nbytes for tensor in stored(self.model))
        return {"version": malmoi.__version__, "weight_bytes": weights}

    def run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        # No prompt comes twice, so nothing is known of a prefix; steps that were recorded stay, as they do for a user.
        params = SamplingParams(temperature=0, max_tokens=num_tokens)
        began = time.perf_counter()
        generations = [self.engine.add(Request(tokens=prompt, params=params)) for prompt in prompts]
        while any(generation.finish_reason is None for generation in generations):
            self.engine.step()
        for generation in generations:
            generation.raise_if_failed()
        return [[g.started_at - began + t for t in g.token_times] for g in generations]

    @torch.inference_mode()
    def logprobs(self, tokens: list[int]) -> list[float]:
        logits = self.model(torch.tensor([tokens])).logits[0, -1]
        return logits.float().log_softmax(-1).tolist()


if __name__ == "__main__":
    answer(Malmoi())
