"""Laws of train/plan.py: the plan's numbers are those of the run."""

import os
import subprocess
import sys

import pytest

from malmoi.models import build_model, llama
from malmoi.train.config import FromScratch
from malmoi.train.optim import OptimConfig
from malmoi.train.plan import make_plan
from malmoi.train.start import open_start

from .conftest import MakeRun


def test_parameters_are_counted_exactly(make_run: MakeRun) -> None:
    run = make_run(start=FromScratch(depth=3, max_positions=64))
    plan = make_plan(open_start(run).model, run, seconds_per_batch=1.0)
    d, f, v, layers = 64, 192, 259, 3
    assert plan.num_table_parameters == v * d
    assert plan.num_parameters == v * d + layers * (4 * d * d + 3 * d * f + 2 * d) + d


def test_a_separate_head_is_a_table_too(make_run: MakeRun) -> None:
    model = build_model(
        llama.LlamaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=24, num_layers=1, num_heads=1, num_kv_heads=1,
            head_dim=16, max_positions=64,
        )
    )  # fmt: skip
    assert make_plan(model, make_run(), seconds_per_batch=1.0).num_table_parameters == 2 * 50 * 16


def test_tokens_steps_and_time_are_those_that_remain(make_run: MakeRun) -> None:
    run = make_run(total_tokens=1000)  # 8 steps of 2 batches of 64
    model = open_start(run).model
    plan = make_plan(model, run, seconds_per_batch=3.0, steps_done=5)
    assert (plan.num_steps, plan.num_tokens, plan.seconds) == (3, 3 * 128, 3 * 2 * 3.0)
    assert make_plan(model, run, seconds_per_batch=3.0, steps_done=9).num_steps == 0


def test_muon_keeps_one_number_less_for_each_parameter_of_the_matrices_in_blocks(make_run: MakeRun) -> None:
    muon, adamw = (make_run(optim=OptimConfig(kind=kind)) for kind in ("muon", "adamw"))
    model = open_start(muon).model
    plan, other = (make_plan(model, run, seconds_per_batch=1.0) for run in (muon, adamw))
    in_matrices = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
    assert other.memory_bytes - plan.memory_bytes == 4 * in_matrices


MEASURE = """
import ctypes, gc, re, torch
from dataclasses import replace
from pathlib import Path
from malmoi.data.pack import PackedBatch
from malmoi.data.sources import SourceConfig
from malmoi.train.config import FromScratch, RunConfig
from malmoi.train.loop import Observer, Trainer
from malmoi.train.optim import OptimConfig
from malmoi.train.plan import make_plan

def status(key):
    return 1024 * int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

def step(run):
    trainer = Trainer(run, Observer())
    ids = torch.zeros(1, run.tokens_per_batch, dtype=torch.long)
    batch = PackedBatch(tokens=ids, targets=ids, lengths=(256,) * (run.tokens_per_batch // 256))
    for _ in range(2):
        trainer.accumulate([batch])
        trainer.optimizers.step()
    return trainer.model

run = RunConfig(out=DIR + "/out", start=FromScratch(depth=6), tokenizer=DIR + "/tokenizer", total_tokens=1,
                sources=(SourceConfig(path="unused"),), tokens_per_batch=4096, precision="PRECISION", compile=False)
step(replace(run, start=FromScratch(depth=1), tokens_per_batch=256))
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
plan = make_plan(step(run), run, seconds_per_batch=1.0)
print(status("VmHWM") - before, plan.memory_bytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_memory_is_what_a_step_takes(make_run: MakeRun, tmp_path, precision: str) -> None:
    make_run()  # for the tokenizer
    program = f"DIR = {str(tmp_path)!r}\n" + MEASURE.replace("PRECISION", precision)
    # What is freed goes back to the system at once: fragments are not the plan's business.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    measured, planned = map(int, done.stdout.split())
    assert planned == pytest.approx(measured, rel=0.1)
