"""OpenVINO GenAI's continuous batching, stepped in this process; weights compressed by NNCF, through `optimum-intel`.

int8 is a scale an output channel; int4 is symmetrical in groups of 64. Its pipeline wants a tokenizer, and gets one
that nothing is ever encoded with.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from peers.protocol import Peer, answer


class OpenVINO(Peer):
    """A continuous-batching pipeline in this process."""

    def load(self, model: str, precision: str, threads: int) -> dict[str, Any]:
        self.directory = converted(Path(model), precision)
        self.properties = {"INFERENCE_NUM_THREADS": threads}
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 2  # GiB
        scheduler.enable_prefix_caching = False
        scheduler.max_num_seqs = 16
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(self.directory), scheduler, "CPU", self.properties
        )
        return {
            "version": openvino_genai.__version__,
            "weight_bytes": (self.directory / "openvino_model.bin").stat().st_size,
        }

    def run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = num_tokens
        config.ignore_eos, config.do_sample = True, False
        began = time.perf_counter()
        handles = [
            self.pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), config)
            for number, prompt in enumerate(prompts)
        ]
        times: list[list[float]] = [[] for _ in prompts]
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
            now = time.perf_counter() - began
            for handle, each in zip(handles, times, strict=True):
                if handle.can_read():
                    each += [now] * sum(len(output.generated_ids) for output in handle.read().values())
        return times

    def logprobs(self, tokens: list[int]) -> list[float]:
        compiled = openvino.Core().compile_model(
            self.directory / "openvino_model.xml", "CPU", self.properties
        )
        length = len(tokens)
        inputs = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, length), np.int64),
            "position_ids": np.arange(length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        logits = compiled(inputs)["logits"][0, -1].astype(np.float64)
        return (logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())).tolist()


def converted(model: Path, precision: str) -> Path:
    """The checkpoint in OpenVINO's format, written if it is not there yet."""
    directory = model.with_name(f"{model.name}-openvino-{precision}")
    if not (directory / "openvino_tokenizer.xml").is_file():
        from openvino_tokenizers import convert_tokenizer
        from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
        from transformers import PreTrainedTokenizerFast

        compression = {
            "bf16": None,
            "int8": OVWeightQuantizationConfig(bits=8, sym=True),
            "int4": OVWeightQuantizationConfig(bits=4, sym=True, group_size=64, ratio=1.0),
        }
        exported = OVModelForCausalLM.from_pretrained(
            model, export=True, compile=False, load_in_8bit=False, quantization_config=compression[precision]
        )
        exported.save_pretrained(directory)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        parts = convert_tokenizer(tokenizer, with_detokenizer=True)
        for part, name in zip(parts, ("tokenizer", "detokenizer"), strict=True):
            openvino.save_model(part, directory / f"openvino_{name}.xml")
    return directory


if __name__ == "__main__":
    answer(OpenVINO())
