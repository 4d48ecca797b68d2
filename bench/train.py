"""Training speed: our step as recipes run it, against `transformers` in a plain PyTorch loop.

Same Llama (depth, vocabulary, weights' precision), same tokens a step, bf16 arithmetic in both. The peer gets what
its users write: rows of one length, `torch.autocast`, the model's own loss, fused AdamW. Ours is the recipe's: packed,
compiled, chunked loss, Muon. `--ours-adamw` and `--eager` take those two away.
"""

import argparse

import torch
from interleave import measure_ratio
from transformers import LlamaConfig, LlamaForCausalLM

from malmoi.models import build_model, count_parameters, initialise, llama
from malmoi.nn.context import Context
from malmoi.train.losses import ChunkedCrossEntropy
from malmoi.train.optim import OptimConfig, Optimizers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--length", type=int, default=512, help="tokens a row")
    parser.add_argument("--rows", type=int, default=16, help="rows a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eager", action="store_true", help="do not compile ours")
    parser.add_argument("--ours-adamw", action="store_true", help="AdamW instead of Muon in ours")
    arguments = parser.parse_args()
    shape = llama.sized(arguments.depth, vocab_size=arguments.vocab_size, max_positions=arguments.length)
    rows = torch.randint(arguments.vocab_size, (arguments.rows, arguments.length))

    ours = initialise(build_model(shape), seed=0)
    ours.compute_dtype = torch.bfloat16
    optimizers = Optimizers(ours, OptimConfig(kind="adamw" if arguments.ours_adamw else "muon"))
    loss = ChunkedCrossEntropy(is_compiled=not arguments.eager)
    hidden = ours.hidden if arguments.eager else torch.compile(ours.hidden)
    packed, targets = rows.reshape(1, -1), rows.roll(-1, dims=1).reshape(1, -1)

    def our_step() -> None:
        context = Context.packed([arguments.length] * arguments.rows, num_layers=len(ours.blocks))
        states = hidden(packed, context)
        (loss(states, ours.head.weight, targets) / targets.numel()).backward()
        optimizers.step()

    peer = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            max_position_embeddings=shape.max_positions,
            tie_word_embeddings=True,
        )
    ).train()
    adamw = torch.optim.AdamW(peer.parameters(), fused=True)

    def peer_step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            peer(input_ids=rows, labels=rows, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()

    assert count_parameters(ours) == peer.num_parameters()
    print(f"{count_parameters(ours) / 1e6:.1f}M parameters, {rows.numel():,} tokens a step, {torch.get_num_threads()} threads")
    for _ in range(2):  # compile, and fill the optimisers
        our_step(), peer_step()
    measure_ratio(our_step, peer_step, rounds=arguments.rounds, label="training step")


if __name__ == "__main__":
    main()
