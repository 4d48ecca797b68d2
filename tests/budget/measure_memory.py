"""Measure what models take: `measure_memory.py DIRECTORY...` prints a line `DIRECTORY running training` for each.

A model generates `LENGTH` tokens (what does not write runs forward once), then trains for two steps. Measured is the
kernel's record of the most memory that the process had, above what it had before the model was there: weights are
copied from their file, and what reading the file took is forgotten. Start it with `MALLOC_MMAP_THRESHOLD_` and
`MALLOC_ARENA_MAX`, so that the allocator gives back what is freed.
"""

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from malmoi.budget.example import example_inputs, sound
from malmoi.engine import Attachment, Engine, Request, SamplingParams
from malmoi.llm.transcribe import TaskTokens, Transcriber
from malmoi.media import SoundProcessor
from malmoi.models import load_model
from malmoi.nn.audio import AudioToText
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import Decoder, EncoderDecoder, Model
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.train.optim import OptimConfig, Optimizers
from malmoi.train.plan import example_loss

LENGTH = 640  # more than the engine shows to a model at once


def status(key: str) -> int:
    return 1024 * int(re.search(key + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def measured(run: Callable[[Model], object], directory: str) -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    run(load(directory))
    return status("VmHWM") - before


@torch.inference_mode()
def generate(model: Model) -> None:
    """Up to `LENGTH` tokens: by the engine, or by the transcriber. What does not write runs forward once."""
    if isinstance(model, AudioToText):
        transcribe(model)
    elif isinstance(model, EncoderDecoder):
        source = [1] * LENGTH
        Engine(model, max_requests=1).generate([[1]], SamplingParams(max_tokens=LENGTH - 1), sources=[source])
    elif isinstance(model, Decoder):
        answer(model)
    else:
        model(**example_inputs(model, LENGTH))


def answer(model: Decoder) -> None:
    """Almost all is prompt, which begins with an image or a sound where the model takes one."""
    inputs = example_inputs(model, LENGTH - 4)
    [tokens] = inputs.pop("tokens").tolist()
    attachments = []
    if isinstance(model, Multimodal):
        for medium, features in model.encode(**inputs).items():
            start = tokens.index(model.placeholders[medium])
            attachments.append(Attachment(start=start, features=features))
    engine = Engine(model, max_requests=1)
    generation = engine.add(
        Request(tokens=tokens, attachments=attachments, params=SamplingParams(max_tokens=4, temperature=0))
    )
    while generation.finish_reason is None:
        engine.step()
    generation.raise_if_failed()


def transcribe(model: AudioToText) -> None:
    """One sound, as many tokens as there is room for."""
    model.max_positions = LENGTH
    end = TaskTokens(decoder_start_token_id=1, eos_token_id=0, no_timestamps_token_id=2, suppress_tokens=(0,))
    Transcriber(model, ByteTokenizer(), SoundProcessor(), end).write(sound(model.encoder, 1), [1])


def train(model: Model) -> None:
    optimizers = Optimizers(model, OptimConfig(kind="adamw"))
    for _ in range(2):
        example_loss(model, 256, batch=2).backward()
        optimizers.clip()
        optimizers.step()


def load(directory: str) -> Model:
    model = load_model(directory)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # no longer pages of the file
    Path("/proc/self/clear_refs").write_text("5")
    return model


if __name__ == "__main__":
    torch.set_num_threads(1)
    for directory in [sys.argv[1], *sys.argv[1:]]:  # the first twice: then all code has been loaded
        print(directory, measured(generate, directory), measured(train, directory), flush=True)
