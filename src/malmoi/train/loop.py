"""The loop: batches -> loss -> update, until the budget is spent; then a model directory and a report.

    OUT/run.json            the configuration
    OUT/metrics.jsonl       a row a step: loss, bits per byte, tokens/s, gradient norm, learning rate, experts' load
    OUT/checkpoints/        the newest few, each enough to resume bit-identically
    OUT/model/              at the end: an ordinary Hugging Face directory
    OUT/report.html, loss.png

Running the same command again resumes. Read next, in the order of a step: `objective.py`, `forward.py`, `losses.py`,
`balance.py`, `optim.py`, `schedule.py`; around it: `start.py`, `resume.py`, `checkpoint.py`, `report.py`.
"""

import math
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import DataError, TrainingError
from malmoi.data.held_out import ByteCounter, bits_per_byte, held_out
from malmoi.data.pack import PackedBatch, PackedStream
from malmoi.data.prefetch import Prefetcher
from malmoi.data.samples import NO_TARGET, Encoder
from malmoi.models import count_parameters
from malmoi.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from malmoi.train.config import RunConfig
from malmoi.train.export import export_model
from malmoi.train.forward import Forward
from malmoi.train.metrics import MetricsLog, Row
from malmoi.train.optim import Optimizers
from malmoi.train.plan import Plan, made_up_batch, make_plan
from malmoi.train.precision import resolve_precision
from malmoi.train.preview import MaskedSample, masked_samples
from malmoi.train.report import require_matplotlib, write_report
from malmoi.train.resume import claim_out
from malmoi.train.start import open_start
from malmoi.train.stop import Interrupted, stop_requests


class Observer:
    """What a run tells whoever watches. The command line draws it; tests and scripts may leave it silent."""

    def on_plan(self, plan: Plan, progress: Progress, config: RunConfig) -> None: ...
    def on_masked_samples(self, samples: list[MaskedSample]) -> None: ...
    def on_step(self, row: Row, num_steps: int) -> None: ...
    def on_evaluation(self, step: int, measured: Mapping[str, float]) -> None: ...
    def on_checkpoint(self, path: Path) -> None: ...


def train(config: RunConfig, observer: Observer | None = None) -> Path:
    """Run `config` to its end, resuming what is there, and return the directory of the trained model.

    Raises ConfigError if the parts do not fit, `out` holds another run or nothing can be compiled; TrainingError if
    the loss is not finite or a checkpoint cannot be written; Interrupted after Ctrl-C or SIGTERM. What was saved
    stays. Bad data raises DataError when it is read.

    >>> train(recipes.story.pretrain("sample"))                                  # doctest: +SKIP
    PosixPath('out/pretrain/model')
    """
    return Trainer(config, observer or Observer()).run()


class Trainer:
    """One run: what it is made of, and the loop over it."""

    def __init__(self, config: RunConfig, observer: Observer) -> None:
        self.config, self.observer = config, observer
        self.out = Path(config.out)
        require_matplotlib()
        self.resumed_from = claim_out(config)
        self.start = open_start(config)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = self.start.model.to(self.device).train()
        self.model.compute_dtype = resolve_precision(config.precision, self.device)
        self.objective = config.objective
        self.encoder = self.objective.encoder(self.start.tokenizer, self.start.template)
        self.bytes = ByteCounter(self.start.tokenizer)
        self.held_out = self._read_held_out()
        self.optimizers = Optimizers(self.model, config.optim)
        self.forward = Forward(self.model, is_compiled=config.compile, objective=self.objective)
        self.balance = self.objective.balance(self.model)
        self.progress = Progress()

    def run(self) -> Path:
        """Resume, announce, train, and leave model and report in `out`; returns the model's directory."""
        stream = self._open_stream()
        samples = (
            masked_samples(self.config.sources, self.encoder) if isinstance(self.encoder, Encoder) else []
        )
        if samples:
            self.observer.on_masked_samples(samples)
        self.observer.on_plan(self._plan(), self.progress, self.config)
        log = MetricsLog(
            self.out / "metrics.jsonl", step=self.progress.step, tensorboard=self.config.tensorboard
        )
        with Prefetcher(stream) as batches, closing(log), stop_requests() as is_stopping:
            while self.progress.step < self.config.num_steps:
                row = self._step(batches)
                if self.held_out and self._is_due(self.config.eval_every):
                    measured = self.evaluate()
                    row |= {f"held_out_{name}": value for name, value in measured.items()}
                    self.observer.on_evaluation(self.progress.step, measured)
                log.write(row)
                self.observer.on_step(row, self.config.num_steps)
                if self._is_due(self.config.checkpoint_every) or is_stopping():
                    self._save(batches)
                if is_stopping():
                    raise Interrupted(
                        f"stopped after step {self.progress.step} and saved. Run the same command again to go on."
                    )
        export_model(self.start, self.out / "model", self.config)
        write_report(self.out, num_parameters=count_parameters(self.model), samples=samples)
        return self.out / "model"

    def accumulate(self, batches: Sequence[PackedBatch]) -> Float[Tensor, ""]:
        """Add to the gradients those of the mean loss over all targets of `batches`; returns the summed loss.

        The mean is over targets, not over batches, so it does not matter how tokens are cut into micro-batches. To the
        gradients, not to the loss, the balance of experts adds its own, a batch for its share of the targets. Raises
        DataError if there is no target.
        """
        num_targets = _require_targets(batches, name="the batches of a step")
        total = torch.zeros((), device=self.device)  # read by nobody here: that would wait for a GPU
        for batch in batches:
            router_logits: list[Tensor] | None = [] if self.balance.routers else None
            loss = self.forward(batch, router_logits=router_logits)
            total += loss.detach()
            if router_logits is not None:
                loss = loss + _count_targets([batch]) * self.balance.penalty(router_logits)
            (loss / num_targets).backward()  # type: ignore[no-untyped-call]
        return total

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Of the held-out batches: bits per byte of text, else the mean loss and what the objective measures."""
        total = sum(self.forward.plain(batch).item() for batch in self.held_out)
        if self.objective.is_text:
            return {"bits_per_byte": bits_per_byte(total, self._count_bytes(self.held_out))}
        judged = ((batch, self.forward.states(batch)) for batch in self.held_out)
        return {
            "loss": total / _count_targets(self.held_out),
            **self.objective.measure(self.model, judged),
        }

    def _step(self, stream: Prefetcher) -> Row:
        """One optimiser step; returns its row of metrics."""
        config, began = self.config, time.perf_counter()
        step = self.progress.step + 1
        batches = [
            self._pose(batch, number) for number, batch in enumerate(islice(stream, config.batches_per_step))
        ]
        self.balance.begin_step()
        summed = self.accumulate(batches)
        total, norm = torch.stack([summed, self.optimizers.clip()]).tolist()
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise TrainingError(
                f"step {step}: the loss is {total}, the gradient's norm {norm}. The step was not taken and nothing "
                f"saved is lost. Run again with a lower optim.lr (now {config.optim.lr}) or optim.clip_norm (now "
                f"{config.optim.clip_norm}); it resumes from the newest of {self.out / 'checkpoints'}. If that one "
                "is too late, remove it, and the one before is taken."
            )
        factor = config.schedule.factor((step - 0.5) / config.num_steps)  # the middle of the step
        self.optimizers.set_factor(factor)
        self.optimizers.step()
        self.balance.move_biases()
        num_targets, num_bytes = _count_targets(batches), self._count_bytes(batches)
        self.progress = Progress(
            step=step,
            num_tokens=self.progress.num_tokens + config.tokens_per_step,
            num_targets=self.progress.num_targets + num_targets,
        )
        return {
            "step": step,
            "tokens": self.progress.num_tokens,
            "loss": total / num_targets,
            "bits_per_byte": bits_per_byte(total, num_bytes) if num_bytes else None,
            "lr": config.optim.lr * factor,
            "gradient_norm": norm,
            **self.balance.measured(),
            "tokens_per_second": config.tokens_per_step / (time.perf_counter() - began),
        }

    def _pose(self, batch: PackedBatch, number: int) -> PackedBatch:
        """What is asked about the `number`-th micro-batch of the coming step: a resumed run asks the same."""
        index = self.progress.step * self.config.batches_per_step + number
        seed = random.Random(f"{self.config.seed}/pose/{index}").getrandbits(63)
        return self.objective.pose(batch, self.start.tokenizer, seed=seed)

    def _open_stream(self) -> PackedStream:
        """The training data; if there is a checkpoint, everything is set to where it stands."""
        stream = PackedStream(
            self.config.sources,
            self.encoder,
            tokens_per_batch=self.config.tokens_per_batch,
            context_length=self.config.context_length,
            seed=self.config.seed,
        )
        if self.resumed_from is not None:
            self.progress, state = load_checkpoint(self.resumed_from, self.model, self.optimizers)
            stream.load_state_dict(state)
        return stream

    def _read_held_out(self) -> list[PackedBatch]:
        if not self.config.eval_sources:
            return []
        batches = held_out(
            self.config.eval_sources,
            self.encoder,
            tokens_per_batch=self.config.tokens_per_batch,
            context_length=self.config.context_length,
            max_batches=self.config.eval_batches,
        )
        posed = [
            self.objective.pose(batch, self.start.tokenizer, seed=number)
            for number, batch in enumerate(batches)
        ]
        _require_targets(posed, name="the held-out batches")
        return posed

    def _plan(self) -> Plan:
        """Measure a micro-batch of made-up text (after one that compiles), and forget its gradients."""
        if self.progress.step >= self.config.num_steps:
            return make_plan(self.model, self.config, seconds_per_batch=0.0, steps_done=self.progress.step)
        batch = made_up_batch(
            self.config, torch.arange(self.config.tokens_per_batch) % self.model.config.vocab_size
        )
        seconds = 0.0
        for _ in range(2):
            began = time.perf_counter()
            self.accumulate([batch]).item()
            seconds = time.perf_counter() - began
        self.model.zero_grad(set_to_none=True)
        return make_plan(self.model, self.config, seconds_per_batch=seconds, steps_done=self.progress.step)

    def _is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.config.num_steps

    def _save(self, stream: Prefetcher) -> None:
        path = save_checkpoint(
            self.out / "checkpoints",
            self.progress,
            self.model,
            self.optimizers,
            stream.state_dict(),
            keep=self.config.keep_checkpoints,
        )
        self.observer.on_checkpoint(path)

    def _count_bytes(self, batches: Sequence[PackedBatch]) -> int:
        return sum(self.bytes.count(batch.targets) for batch in batches) if self.objective.is_text else 0


def _count_targets(batches: Sequence[PackedBatch]) -> int:
    return sum(int((batch.targets != NO_TARGET).sum()) for batch in batches)


def _require_targets(batches: Sequence[PackedBatch], *, name: str) -> int:
    """Count them. Raises DataError if there is none: a mean over nothing is no number."""
    num_targets = _count_targets(batches)
    if not num_targets:
        raise DataError(
            f"{name} have no target, as when so few tokens are read that none is hidden. Give more text, or raise "
            "tokens_per_batch."
        )
    return num_targets
