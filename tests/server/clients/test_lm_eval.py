"""lm-eval measures a model through /v1/completions, and gets what the model itself says."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.server.conftest import Serve, Served

import malmoi

pytestmark = pytest.mark.slow

ROWS = [
    {"document": "정말 재미있게 본 영화입니다.", "label": 1},
    {"document": "시간이 아까운 영화였다 ㅠㅠ", "label": 0},
    {"document": "배우들의 연기가 훌륭해서 두 번 봤어요", "label": 1},
    {"document": "꿻뷁 👨‍👩‍👧‍👦 나랏말〯ᄊᆞ미", "label": 0},
]
LABELS = ["부정", "긍정"]
COMMON = {"dataset_path": "json", "test_split": "test"}
TASKS: dict[str, dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "문장: {{document}}\n감정:",
        "doc_to_choice": LABELS,
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "whole": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{document}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    },
    "written": {
        "output_type": "generate_until",
        "doc_to_text": "{{document}}",
        "doc_to_target": "{{document}}",
        "generation_kwargs": {"until": ["\n", "다"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def served(start_server: Serve) -> Served:
    return start_server(malmoi.load(dtype="fp32"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the tasks and their rows."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), "utf-8")
    for name, task in TASKS.items():
        content = {"task": name, **COMMON, "dataset_kwargs": {"data_files": {"test": str(rows)}}, **task}
        (folder / f"{name}.yaml").write_text(json.dumps(content), "utf-8")  # JSON is YAML
    return folder


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (["choice", "whole", "written"], ["tokenized_requests=True", "--batch_size=3"]),
        (["choice", "written"], ["tokenized_requests=False,num_concurrent=4"]),
    ],
    ids=["ids", "text"],
)
def test_what_is_measured_is_what_the_model_says(
    served: Served,
    tasks: Path,
    programs: Callable[[str], Path],
    tmp_path: Path,
    asked: list[str],
    options: list[str],
) -> None:
    program = [
        programs("lm_eval") / "lm_eval",
        "run",
        "--model=local-completions",
        f"--model_args=model=default,base_url={served.url}/v1/completions,tokenizer={malmoi.default_model()},"
        f"tokenizer_backend=huggingface,{options[0]}",
        *options[1:],
        "--tasks=" + ",".join(asked),
        f"--include_path={tasks}",
        f"--output_path={tmp_path}",
        "--log_samples",
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    ended = subprocess.run(program, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    for name in asked:
        CHECKS[name](served, samples(tmp_path, name))


def check_choice(served: Served, found: list[list[Any]]) -> None:
    for row, sample in zip(ROWS, found, strict=True):
        for label, (logprob, is_greedy) in zip(LABELS, sample, strict=True):
            wanted, is_likeliest = of_the_model(served, f"문장: {row['document']}\n감정:", f" {label}")
            assert float(logprob) == pytest.approx(wanted, abs=1e-4)
            assert is_greedy == str(is_likeliest)


def check_whole(served: Served, found: list[list[Any]]) -> None:
    for row, [logprob] in zip(ROWS, found, strict=True):
        wanted, _ = of_the_model(served, "", str(row["document"]))
        assert float(logprob) == pytest.approx(wanted, abs=1e-4)


def check_written(served: Served, found: list[list[Any]]) -> None:
    params = replace(served.llm.default_params, temperature=0, max_tokens=12, stop=("\n", "다"))
    for row, [text] in zip(ROWS, found, strict=True):
        assert text == served.llm.generate(str(row["document"]), params).text


CHECKS = {"choice": check_choice, "whole": check_whole, "written": check_written}


def samples(folder: Path, task: str) -> list[list[Any]]:
    """What was measured of each row, in the order of the rows."""
    [file] = folder.glob(f"*/samples_{task}_*.jsonl")
    lines = map(json.loads, file.read_text("utf-8").splitlines())
    return [
        [answers[0] for answers in line["resps"]] for line in sorted(lines, key=lambda line: int(line["doc_id"]))
    ]


def of_the_model(served: Served, context: str, rest: str) -> tuple[float, bool]:
    """How likely the rest is, computed without the server; and whether each of its tokens is the likeliest."""
    tokenizer = served.llm.tokenizer
    opening = [] if context else [tokenizer.special_tokens["<|endoftext|>"]]
    ids = torch.tensor([opening + tokenizer.encode(context + rest)])
    start = len(opening + tokenizer.encode(context))
    with torch.no_grad():
        logprobs = served.llm.model(ids).logits[0, start - 1 : -1].float().log_softmax(-1)
    said = ids[0, start:]
    return logprobs.gather(-1, said[:, None]).sum().item(), bool((logprobs.argmax(-1) == said).all())
