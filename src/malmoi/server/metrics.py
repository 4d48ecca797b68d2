"""`/metrics`: how much there is to do, and how long it took, in the text format that Prometheus reads.

    engine of each model: the line, the batch, the cache        -> gauges
    Measures of each model: answers, tokens, seconds            -> counters, histograms

Place in the flow: a monitor asks every few seconds; tokens/s are the growth of a counter. Read next:
`catalogue/measured.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from malmoi.llm import LLM, TextEncoder
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.catalogue.local import LocalModel
from malmoi.server.catalogue.measured import Histogram, Measures
from malmoi.server.catalogue.upstream import Upstream
from malmoi.server.catalogue.upstream.breaker import STATES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Metric:
    r"""A name, what it counts, and a sample for each set of labels; `samples` may have an ending of the name.

    >>> metric = Metric("malmoi_requests_waiting", "gauge", "In line.", [("", {"model": 'a"b'}, 3)])
    >>> print(metric.text(), end="")
    # HELP malmoi_requests_waiting In line.
    # TYPE malmoi_requests_waiting gauge
    malmoi_requests_waiting{model="a\"b"} 3
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    samples: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def text(self) -> str:
        """In Prometheus' format; nothing where there is no sample."""
        if not self.samples:
            return ""
        lines = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.kind}"]
        for ending, labels, value in self.samples:
            said = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            lines.append(f"{self.name}{ending}{{{said}}} {value}")
        return "".join(line + "\n" for line in lines)


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """The line, the batch, the cache, tokens and seconds of every model that is loaded."""
        metrics = [*_of_entries(catalogue), *_of_engines(catalogue), *_of_answers(catalogue)]
        text = "".join(metric.text() for metric in metrics)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    return router


def _of_entries(catalogue: Catalogue) -> Iterable[Metric]:
    """Which models are there, in what memory, and whether those of other machines are asked at all."""
    loaded = Metric("malmoi_model_loaded", "gauge", "1 if the model is in this process.")
    size = Metric("malmoi_model_bytes", "gauge", "Memory of its weights and its cache.")
    loads = Metric("malmoi_model_loads_total", "counter", "How often it was loaded.")
    states = Metric("malmoi_upstream_state", "gauge", "0: asked; 1: tried again; 2: not asked for a while.")
    retries = Metric("malmoi_upstream_retries_total", "counter", "Requests that were sent again.")
    for name, entry in catalogue.entries.items():
        labels = {"model": name}
        match entry:
            case LocalModel():
                loaded.samples.append(("", labels, int(entry.is_loaded)))
                size.samples.append(("", labels, entry.num_bytes))
                loads.samples.append(("", labels, entry.num_loads))
            case Upstream():
                states.samples.append(("", labels, STATES.index(entry.breaker.state)))
                retries.samples.append(("", labels, entry.num_retries))
    return loaded, size, loads, states, retries


def _of_engines(catalogue: Catalogue) -> Iterable[Metric]:
    """What is there now. An engine's thread may be in a step: lengths are read, nothing else."""
    waiting = Metric("malmoi_requests_waiting", "gauge", "Requests in line.")
    running = Metric("malmoi_requests_running", "gauge", "Requests that every step advances: the batch.")
    used = Metric("malmoi_cache_blocks_in_use", "gauge", "Blocks of the cache that a request holds.")
    there = Metric("malmoi_cache_blocks", "gauge", "Blocks of the cache.")
    for name in catalogue.names:
        labels = {"model": name}
        match catalogue.loaded(name):
            case LLM() as llm:
                scheduler = llm.engine.scheduler
                waiting.samples.append(("", labels, len(scheduler.waiting)))
                running.samples.append(("", labels, len(scheduler.running)))
                used.samples.append(("", labels, scheduler.num_blocks_in_use))
                num_blocks = sum(group.num_blocks for group in scheduler.holdings.groups)
                there.samples.append(("", labels, num_blocks))
            case TextEncoder() as encoder:
                waiting.samples.append(("", labels, len(encoder.engine.waiting)))
    return waiting, running, used, there


def _of_answers(catalogue: Catalogue) -> Iterable[Metric]:
    """What has been, since the server was started."""
    answers = Metric("malmoi_requests_total", "counter", "Requests that have ended, by how they did.")
    prompts = Metric("malmoi_prompt_tokens_total", "counter", "Tokens of the prompts of answers.")
    cached = Metric("malmoi_prompt_tokens_cached_total", "counter", "Of these, those found in the cache.")
    new = Metric("malmoi_generated_tokens_total", "counter", "Tokens of answers, counted at their end.")
    first = Metric("malmoi_first_token_seconds", "histogram", "From a request to its first token.")
    between = Metric("malmoi_between_tokens_seconds", "histogram", "From one token of a text to the next.")
    whole = Metric("malmoi_request_seconds", "histogram", "From a request to its last token.")
    for name in catalogue.names:
        measures, labels = catalogue.entries[name].measures, {"model": name}
        if measures is None:
            continue
        for ending in Measures.ENDINGS:
            answers.samples.append(("", {**labels, "ending": ending}, measures.endings[ending]))
        prompts.samples.append(("", labels, measures.num_prompt_tokens))
        cached.samples.append(("", labels, measures.num_cached_tokens))
        new.samples.append(("", labels, measures.num_new_tokens))
        first.samples.extend(_samples(measures.first_token, labels))
        between.samples.extend(_samples(measures.between_tokens, labels))
        whole.samples.extend(_samples(measures.whole, labels))
    return answers, prompts, cached, new, first, between, whole


def _samples(
    histogram: Histogram, labels: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, str], float]]:
    counts = list(accumulate(histogram.counts))
    for bound, num in zip((*histogram.bounds, "+Inf"), counts, strict=True):
        yield "_bucket", {**labels, "le": str(bound)}, num
    yield "_sum", labels, histogram.sum
    yield "_count", labels, counts[-1]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
