"""/metrics is what Prometheus' own parser reads, and its numbers are those of the answers."""

from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import HELLO, Serve, Served, wait_until
from tests.server.test_encoders import encoder

from malmoi.server.catalogue.measured import Histogram, Measures
from malmoi.server.metrics import Metric
from malmoi.testing.models import tiny_llama, tiny_llm

CHAT = "/v1/chat/completions"


def samples(served: Served) -> dict[str, float]:
    """Each sample by its name, with the label that tells it from its neighbours."""
    response = httpx.get(f"{served.url}/metrics", timeout=60)  # who was failed has lost its connection
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            more = [value for name, value in sample.labels.items() if name != "model"]
            found["/".join([sample.name.removeprefix("malmoi_"), *more])] = sample.value
    return found


@pytest.fixture
def served(serve: Serve) -> Served:
    served = serve(tiny_llm(tiny_llama(max_positions=8192)))
    served.post(CHAT, messages=HELLO, max_tokens=1)
    return served


def test_answers_and_their_tokens_are_counted(served: Served) -> None:
    before = samples(served)
    usages = [
        served.post(CHAT, messages=HELLO, max_tokens=8, ignore_eos=True, **more).json()["usage"]
        for more in ({}, {"n": 3})
    ]
    served.chunks(CHAT, messages=HELLO, max_tokens=8, ignore_eos=True)
    after = samples(served)
    grown = {name: after[name] - before[name] for name in after}
    assert grown["requests_total/length"] == 3
    assert grown["generated_tokens_total"] == 8 + 24 + 8
    assert grown["prompt_tokens_total"] == 3 * usages[0]["prompt_tokens"]
    assert grown["prompt_tokens_cached_total"] > 0
    assert grown["between_tokens_seconds_count"] == 7 * 5
    assert grown["first_token_seconds_count"] == grown["request_seconds_count"] == 3
    assert 0 < after["first_token_seconds_sum"] < after["request_seconds_sum"]


def test_every_endpoint_counts(served: Served) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 2},
        "/v1/responses": {"input": "a", "max_output_tokens": 2},
        "/v1/messages": {"messages": HELLO, "max_tokens": 2},
        "/api/chat": {"model": "default", "messages": HELLO, "options": {"num_predict": 2}},
        "/api/generate": {"model": "default", "prompt": "a", "options": {"num_predict": 2}},
    }
    before = samples(served)["first_token_seconds_count"]
    for path, body in asked.items():
        assert served.post(path, **body).status_code == 200
    assert samples(served)["first_token_seconds_count"] - before == 6


def test_buckets_are_cumulative_and_end_with_all(served: Served) -> None:
    found = samples(served)
    buckets = [value for name, value in found.items() if name.startswith("request_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["request_seconds_bucket/+Inf"] == found["request_seconds_count"] == 1


def test_what_runs_and_what_it_holds_is_seen_while_it_does(served: Served) -> None:
    idle = samples(served)
    assert (idle["requests_running"], idle["requests_waiting"], idle["cache_blocks_in_use"]) == (0, 0, 0)
    connection = served.request(CHAT, messages=HELLO, max_tokens=8000, ignore_eos=True, stream=True)
    wait_until(lambda: samples(served)["cache_blocks_in_use"] > 0)
    busy = samples(served)
    assert (busy["requests_running"], busy["requests_waiting"]) == (1, 0)
    assert busy["cache_blocks"] == served.llm.engine.scheduler.holdings.groups[0].num_blocks
    connection.close()
    wait_until(lambda: samples(served)["requests_total/cancelled"] == 1)
    served.until_idle()
    assert samples(served)["cache_blocks_in_use"] == 0


def test_who_is_refused_or_fails_is_counted_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.post("/v1/completions", prompt=[10**9])
    assert samples(served)["requests_total/refused"] == 1
    monkeypatch.setattr(served.llm.engine, "step", lambda: 1 / 0)
    assert served.post(CHAT, messages=HELLO).status_code == 500
    assert samples(served)["requests_total/failed"] == 1


def test_an_encoder_has_a_line_and_no_answers(serve: Serve) -> None:
    models: Any = {"encoder": encoder()}
    served = serve(models)
    served.post("/v1/embeddings", input="a")
    found = samples(served)
    assert found.pop("model_bytes") > 0
    assert found == {"requests_waiting": 0, "model_loaded": 1, "model_loads_total": 1}


def test_names_of_models_are_written_so_that_they_are_read_back() -> None:
    name = 'a"\\\n한'
    metric = Metric("x", "gauge", "Help.", [("", {"model": name}, 1)])
    [family] = text_string_to_metric_families(metric.text())
    assert family.samples[0].labels == {"model": name}


def test_a_histogram_counts_each_value_once() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 14.0)
    assert set(Measures().endings) == set()
