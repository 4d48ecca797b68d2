"""What two models say of the same film reviews, judged against NSMC's labels: rows for `malmoi router train`.

    python runs/judge.py DATA SPLIT FIRST COUNT WEAK STRONG > judged.jsonl      # "default": the model that ships
    python runs/judge.py DATA SPLIT FIRST COUNT > chats.jsonl                   # the same rows to tune on

Each review is asked about as a chat, answered greedily, and scores 1 if the answer begins with its label, else 0.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import malmoi
from malmoi.data.files import find_files, read_rows
from malmoi.engine import SamplingParams
from malmoi.llm import AsyncLLM

ASKED = "다음 영화 리뷰가 긍정인지 부정인지 말해 주세요.\n\n"
LABELS = ("부정", "긍정")
GREEDY = SamplingParams(temperature=0, max_tokens=4)


def main() -> None:
    data, split, first, count, *models = sys.argv[1:]
    rows = [
        row.fields for file in find_files(Path(data) / f"tasks/nsmc.{split}.*") for row in read_rows(file)
    ]
    rows = rows[int(first) : int(first) + int(count)]
    prompts = [[{"role": "user", "content": ASKED + row["text"]}] for row in rows]
    labels = [LABELS[row["label"]] for row in rows]
    if not models:
        for prompt, label in zip(prompts, labels, strict=True):
            show(messages=[*prompt, {"role": "assistant", "content": label}])
        return
    weak, strong = (asyncio.run(scores(model, prompts, labels)) for model in models)
    for prompt, of_weak, of_strong in zip(prompts, weak, strong, strict=True):
        show(prompt=prompt, weak=of_weak, strong=of_strong)


async def scores(model: str, prompts: list[list[dict[str, str]]], labels: list[str]) -> list[int]:
    async with AsyncLLM(malmoi.load(None if model == "default" else model)) as llm:
        answers = await asyncio.gather(*(llm.chat(prompt, GREEDY) for prompt in prompts))
    return [int(one.text.startswith(label)) for one, label in zip(answers, labels, strict=True)]


def show(**row: Any) -> None:
    print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
