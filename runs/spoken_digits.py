"""Teach a tiny Whisper to write spoken digits down in Korean: sound in, text out, from nothing on one core.

The data are recordings of the Free Spoken Digit Dataset: English digits of half a second by six speakers. A training
example is one to three of them by one speaker, one after the other, and the text is their names: "삼 일 사". What is
heard in the end was not heard in training: two takes of every digit, and one speaker altogether.

    .venv/bin/python runs/spoken_digits.py fsdd-train.zip runs/spoken-digits
    .venv/bin/malmoi transcribe --model runs/spoken-digits three.wav
"""

import argparse
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from malmoi.core.errors import CheckpointError
from malmoi.core.files import write_json
from malmoi.llm.transcribe import TaskTokens, Transcriber
from malmoi.media import SoundProcessor, load_sound, save_processors
from malmoi.models import build_model, count_parameters, initialise, require_kind, save_model, whisper
from malmoi.nn.audio import AudioToText
from malmoi.testing.tokenizer import ByteTokenizer

NAMES = ["영", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구"]
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|ko|>", "<|transcribe|>", "<|notimestamps|>")
END, START, KO, TRANSCRIBE, NO_TIMESTAMPS = range(len(SPECIAL))
TASK_TOKENS = TaskTokens(
    decoder_start_token_id=START,
    eos_token_id=END,
    no_timestamps_token_id=NO_TIMESTAMPS,
    lang_to_id={"<|ko|>": KO},
    task_to_id={"transcribe": TRANSCRIBE},
)
PROMPT = TASK_TOKENS.prompt("ko", "transcribe")
TOKENIZER = ByteTokenizer(SPECIAL)
PROCESSOR = SoundProcessor(num_mels=40, chunk_seconds=2)
NEW_SPEAKER, NEW_TAKES = "theo", {"11", "12"}


@dataclass(frozen=True)
class Recording:
    """A spoken digit, its samples at 16 kHz."""

    digit: int
    speaker: str
    take: str
    samples: np.ndarray


def recordings(archive: Path) -> list[Recording]:
    """Every recording of the archive, whose names are like `7_theo_12.wav`."""
    with ZipFile(archive) as files:
        names = [name for name in files.namelist() if name.endswith(".wav")]
        return [
            Recording(int(digit), speaker, take, load_sound(files.read(name)))
            for name in names
            for digit, speaker, take in [Path(name).stem.split("_")]
        ]


def example(recordings: Sequence[Recording], count: int, draw: random.Random) -> tuple[np.ndarray, str]:
    """So many of the recordings one after the other, drawn until they fit into what the model hears, and their names.

    Before each there is up to a tenth of a second of silence.
    """
    parts = draw.choices(recordings, k=count)
    pieces = [piece for part in parts for piece in (np.zeros(draw.randrange(1600), np.float32), part.samples)]
    sound = np.concatenate(pieces)
    if len(sound) > PROCESSOR.chunk_samples:
        return example(recordings, count, draw)
    return sound, " ".join(NAMES[part.digit] for part in parts)


def batch(by_speaker: dict[str, list[Recording]], draw: random.Random, size: int) -> tuple[Tensor, Tensor]:
    """Spectrograms of one to three digits by one speaker, and the ids of prompt, text and end; -100 after the end."""
    speakers = draw.choices(sorted(by_speaker), k=size)
    examples = [example(by_speaker[speaker], draw.randint(1, 3), draw) for speaker in speakers]
    audio = torch.from_numpy(np.concatenate([PROCESSOR(sound).mel for sound, _ in examples]))
    rows = [torch.tensor([*PROMPT, *TOKENIZER.encode(name), END]) for _, name in examples]
    return audio, torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)


def train(model: AudioToText, heard: Sequence[Recording], *, steps: int, batch_size: int, seed: int) -> None:
    """Adam with a warm-up and a cosine, printing the loss as it falls (mutates the model)."""
    draw = random.Random(seed)
    by_speaker: dict[str, list[Recording]] = {}
    for recording in heard:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, step / 100) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    begin = time.perf_counter()
    for step in range(1, steps + 1):
        audio, ids = batch(by_speaker, draw, batch_size)
        logits = model(ids[:, :-1].clamp(min=END), audio=audio).logits[:, len(PROMPT) - 1 :]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, len(PROMPT) :].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}, {time.perf_counter() - begin:.0f} s", flush=True)


def report(transcriber: Transcriber, what: str, recordings: Sequence[Recording], seed: int) -> None:
    """How many of 200 sounds that it has not heard before are written down without a mistake."""
    draw = random.Random(seed)
    for count, name in ((1, "one digit"), (3, "three digits")):
        num_right = 0
        for _ in range(200):
            speaker = draw.choice(sorted({recording.speaker for recording in recordings}))
            sound, text = example([r for r in recordings if r.speaker == speaker], count, draw)
            [tokens] = transcriber.write(torch.from_numpy(PROCESSOR(sound).mel), PROMPT)
            num_right += TOKENIZER.decode(tokens) == text
        print(f"{what}, {name}: {num_right} of 200 right", flush=True)


def main() -> None:
    """Train, save and report."""
    parser = argparse.ArgumentParser(
        description="Teach a tiny Whisper to write spoken digits down in Korean."
    )
    parser.add_argument("archive", type=Path, help="fsdd-train.zip")
    parser.add_argument("out", type=Path, help="where the model goes")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    everything = recordings(args.archive)
    of_others = [r for r in everything if r.speaker != NEW_SPEAKER]
    heard = [r for r in of_others if r.take not in NEW_TAKES]
    config = whisper.sized(2, num_heads=2, vocab_size=TOKENIZER.vocab_size, num_mels=PROCESSOR.num_mels)
    encoder = replace(config.encoder, max_positions=PROCESSOR.num_frames // 2)
    shape = replace(config, encoder=encoder, max_positions=32)
    model = require_kind(
        initialise(build_model(shape), seed=args.seed, std=0.08), AudioToText, for_what="a transcription"
    )
    print(f"{count_parameters(model):,} parameters, {len(heard)} recordings to learn from", flush=True)
    train(model, heard, steps=args.steps, batch_size=args.batch_size, seed=args.seed)
    save_model(model, args.out)
    TOKENIZER.save(args.out)
    save_processors(args.out, sound=PROCESSOR)
    write_json(args.out / "generation_config.json", vars(TASK_TOKENS), error=CheckpointError)
    transcriber = Transcriber.load(args.out)
    report(transcriber, "new takes", [r for r in of_others if r.take in NEW_TAKES], args.seed)
    report(transcriber, "a new speaker", [r for r in everything if r.speaker == NEW_SPEAKER], args.seed)


if __name__ == "__main__":
    main()
