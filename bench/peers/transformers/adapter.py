"""`transformers`: the model's own forward over a batch, with its cache; `generate` without its trimmings."""

import time
from typing import Any

import torch
import transformers
from peers.protocol import Peer, answer


class Transformers(Peer):
    """A PyTorch model in this process."""

    def load(self, model: str, precision: str, threads: int) -> dict[str, Any]:
        if precision != "bf16":
            raise ValueError(f"{precision} is not among what transformers has for a processor")
        torch.set_num_threads(threads)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
        return {"version": transformers.__version__, "weight_bytes": self.model.get_memory_footprint()}

    @torch.inference_mode()
    def run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        began = time.perf_counter()
        tokens, cache, times = torch.tensor(prompts), None, []
        for _ in range(num_tokens):
            out = self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, tokens = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
            times.append(time.perf_counter() - began)
        return [times] * len(prompts)

    @torch.inference_mode()
    def logprobs(self, tokens: list[int]) -> list[float]:
        logits = self.model(torch.tensor([tokens]), logits_to_keep=1).logits[0, -1]
        return logits.float().log_softmax(-1).tolist()


if __name__ == "__main__":
    answer(Transformers())
