"""vLLM's build for processors, its engine stepped in this process."""

import os
import time
from pathlib import Path
from typing import Any

from peers.protocol import Peer, answer

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
LONGEST = 8192


class VLLM(Peer):
    """vLLM's engine in this process."""

    def load(self, model: str, precision: str, threads: int) -> dict[str, Any]:
        if precision != "bf16":
            raise ValueError(f"{precision} needs a checkpoint that another program has quantised")
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "0" if threads == 1 else f"0-{threads - 1}"
        import vllm

        self.vllm = vllm
        engine_args = vllm.EngineArgs(
            model=model,
            dtype="bfloat16",
            skip_tokenizer_init=True,
            enable_prefix_caching=False,
            max_model_len=LONGEST,
            max_num_seqs=16,
            max_logprobs=-1,
        )
        self.engine = vllm.LLMEngine.from_engine_args(engine_args)
        self.num_requests = 0
        weights = Path(model) / "model.safetensors"  # taken as it is
        return {"version": vllm.__version__, "weight_bytes": weights.stat().st_size}

    def run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        params = self.vllm.SamplingParams(
            temperature=0, max_tokens=num_tokens, ignore_eos=True, detokenize=False
        )
        began = time.perf_counter()
        times: dict[str, list[float]] = {self.add(prompt, params): [] for prompt in prompts}
        while self.engine.has_unfinished_requests():
            outputs = self.engine.step()
            now = time.perf_counter() - began
            for output in outputs:
                num_new = len(output.outputs[0].token_ids) - len(times[output.request_id])
                times[output.request_id] += [now] * num_new
        return list(times.values())

    def logprobs(self, tokens: list[int]) -> list[float]:
        params = self.vllm.SamplingParams(temperature=0, max_tokens=1, logprobs=-1, detokenize=False)
        self.add(tokens, params)
        found: dict[int, Any] = {}
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                found = output.outputs[0].logprobs[0]
        return [found[token].logprob for token in range(len(found))]

    def add(self, prompt: list[int], params: Any) -> str:
        self.num_requests += 1
        name = str(self.num_requests)
        self.engine.add_request(name, {"prompt_token_ids": prompt}, params)
        return name


if __name__ == "__main__":
    answer(VLLM())
