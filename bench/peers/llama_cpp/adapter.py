"""llama.cpp through its C interface, as its server drives it: prompt by prompt, then one batch of all sequences.

The checkpoint becomes a GGUF file in bf16, which llama.cpp's own quantiser turns into Q8_0 or Q4_0 (whose head it
keeps in Q6_K). No text is read or written, so the file has no vocabulary.
"""

import ctypes
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from peers.protocol import Peer, answer

FILE_TYPES = {"int8": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "int4": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
OF_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MOST_AT_ONCE = 4096  # tokens that a call of llama_decode gets
MOST_SEQUENCES = 16
LENGTH = 16_384  # tokens that all sequences have room for


class LlamaCpp(Peer):
    """llama.cpp in this process."""

    def load(self, model: str, precision: str, threads: int) -> dict[str, Any]:
        file = gguf_file(Path(model), precision)
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_seq_max = LENGTH, MOST_AT_ONCE, MOST_SEQUENCES
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.model or not self.context:
            raise RuntimeError(f"llama.cpp does not load {file}")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(MOST_AT_ONCE, 0, 1)
        return {
            "version": llama_cpp.__version__,
            "weight_bytes": llama_cpp.llama_model_size(self.model),
        }

    def run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        self.forget()
        began = time.perf_counter()
        times: list[list[float]] = []
        tokens = []
        for sequence, prompt in enumerate(prompts):
            [logits] = self.decode([(sequence, place, token) for place, token in enumerate(prompt)], 1)
            tokens.append(int(logits.argmax()))
            times.append([time.perf_counter() - began])
        for step in range(1, num_tokens):
            entries = [(s, len(prompts[s]) + step - 1, token) for s, token in enumerate(tokens)]
            tokens = [int(logits.argmax()) for logits in self.decode(entries, len(entries))]
            now = time.perf_counter() - began
            for each in times:
                each.append(now)
        return times

    def logprobs(self, tokens: list[int]) -> list[float]:
        self.forget()
        [logits] = self.decode([(0, place, token) for place, token in enumerate(tokens)], 1)
        logits = logits.astype(np.float64)
        return (logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())).tolist()

    def forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, entries: list[tuple[int, int, int]], num_logits: int) -> list[np.ndarray]:
        """Show (sequence, position, token) entries; return the last logits, which the next call overwrites."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for i, (sequence, position, token) in enumerate(entries):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i >= len(entries) - num_logits
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        rows = range(len(entries) - num_logits, len(entries))
        found = (llama_cpp.llama_get_logits_ith(self.context, row) for row in rows)
        return [np.ctypeslib.as_array(row, shape=(self.vocab_size,)) for row in found]


def gguf_file(model: Path, precision: str) -> Path:
    """The checkpoint in llama.cpp's format, written if it is not there yet."""
    plain = model.with_name(f"{model.name}-bf16.gguf")
    if not plain.is_file():
        write_gguf(model, plain)
    if precision == "bf16":
        return plain
    file = model.with_name(f"{model.name}-{precision}.gguf")
    if not file.is_file():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = FILE_TYPES[precision]
        if llama_cpp.llama_model_quantize(str(plain).encode(), str(file).encode(), ctypes.byref(params)):
            raise RuntimeError(f"llama.cpp does not quantise {plain}")
    return file


def write_gguf(model: Path, file: Path) -> None:
    """A Llama of bf16 weights as a GGUF file; norms are in fp32, as llama.cpp wants them."""
    config = json.loads((model / "config.json").read_text("utf-8"))
    if config["model_type"] != "llama":
        raise ValueError(f"this converter knows Llama alone, not {config['model_type']}")
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("none")
    for name, tensor in read_bf16(model / "model.safetensors"):
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            # llama.cpp turns neighbours of a head where Hugging Face turns halves.
            halves = tensor.reshape(-1, 2, config["head_dim"] // 2, tensor.shape[-1])
            tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
        if tensor.ndim == 1:
            wide = (tensor.astype(np.uint32) << 16).view(np.float32)
            writer.add_tensor(gguf_name(name), wide)
        else:
            rows = np.ascontiguousarray(tensor).view(np.uint8)
            writer.add_tensor(gguf_name(name), rows, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """What llama.cpp calls a tensor of Hugging Face's Llama."""
    if name in TOP:
        return TOP[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{OF_LAYER[part]}.weight"


def read_bf16(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a safetensors file, as the bits of their numbers: NumPy has no bf16."""
    data = np.memmap(file, dtype=np.uint8, mode="r")
    length = int(data[:8].view(np.uint64)[0])
    header = json.loads(data[8 : 8 + length].tobytes())
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16", f"{name} is in {entry['dtype']}"
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        yield name, np.frombuffer(data[first:last].tobytes(), np.uint16).reshape(entry["shape"])


if __name__ == "__main__":
    answer(LlamaCpp())
