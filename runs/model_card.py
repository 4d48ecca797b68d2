"""Write the model card of the shipped model: its figures are measured and its samples drawn here, unedited."""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

import malmoi
from malmoi.core.files import read_json, write_text
from malmoi.data.held_out import ByteCounter, bits_per_byte, held_out
from malmoi.data.samples import Encoder
from malmoi.data.sources import SourceConfig
from malmoi.models import count_parameters, load_model
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.losses import ChunkedCrossEntropy
from malmoi.train.metrics import read_metrics

QUESTIONS = [
    "안녕하세요?",
    "너는 누구야?",
    "대한민국의 수도는 어디야?",
    "세종대왕은 누구인가요?",
    "인공지능이 뭐야?",
    "오늘 너무 피곤해.",
    "이 영화 평의 감정을 분류해 줘. (긍정/부정)\n\n배우들 연기도 좋고 마지막에 많이 울었어요.",
    "다음 문장을 영어로 번역해 주세요.\n\n이 파일을 열 수 없습니다.",
    "제주도에 대해 설명해 줘.",
    "이번 주말에 뭐 하면 좋을까?",
]
SAMPLING = malmoi.SamplingParams(temperature=0.7, top_p=0.9, repetition_penalty=1.1, max_tokens=200, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="directory of pretrain-ko.jsonl.zst and pretrain-en.jsonl.zst")
    parser.add_argument("--runs", nargs="+", type=Path, required=True, help="the runs' directories, first to last")
    parser.add_argument("--machine", required=True, help="what trained it, by name")
    parser.add_argument("--model", type=Path, default=malmoi.default_model())
    arguments = parser.parse_args()
    directory: Path = arguments.model
    model, tokenizer = load_model(directory, dtype=torch.float32), Tokenizer.load(directory)
    figures = {
        name: measure(model, tokenizer, f"{arguments.data}/pretrain-{language}.jsonl.zst")
        for name, language in (("Korean", "ko"), ("English", "en"))
    }
    lines = card(directory, model, figures, arguments.runs, arguments.machine)
    write_text(directory / "README.md", "\n".join(lines) + "\n")
    print(json.dumps(figures))


def measure(model: Decoder, tokenizer: Tokenizer, path: str) -> tuple[float, int]:
    """Bits per byte over all held-out documents of a file, in windows of the whole context; and their bytes."""
    batches = held_out(
        [SourceConfig(path=path)],
        Encoder(tokenizer=tokenizer),
        tokens_per_batch=8 * model.max_positions,
        context_length=model.max_positions,
        max_batches=10_000,
    )
    counter, loss = ByteCounter(tokenizer), ChunkedCrossEntropy()
    nats, num_bytes = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            context = Context.packed(batch.lengths, specs=model.cache_specs())
            nats += loss(model.hidden(batch.tokens, context), model.head.weight, batch.targets).item()
            num_bytes += counter.count(batch.targets)
    return bits_per_byte(nats, num_bytes), num_bytes


def card(
    directory: Path, model: Decoder, figures: dict[str, tuple[float, int]], runs: list[Path], machine: str
) -> Iterator[str]:
    """The lines of the card."""
    config = model.config
    size = (directory / "model.safetensors").stat().st_size
    yield TOP.format(
        parameters=count_parameters(model) / 1e6,
        megabytes=size / 1e6,
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
        minutes=sum(map(_minutes, runs)),
        machine=machine,
    )
    yield "| stage | tokens | steps | last held-out bits per byte, in training |\n|---|---:|---:|---:|"
    for run in runs:
        rows, settings = read_metrics(run / "metrics.jsonl"), read_json(run / "run.json")
        last = [row["held_out_bits_per_byte"] for row in rows if "held_out_bits_per_byte" in row][-1]
        name = "pretraining" if settings["start"]["kind"] == "scratch" else "chat tuning among prose, with the decay"
        yield f"| {name} | {rows[-1]['tokens']:,} | {rows[-1]['step']:,} | {last:.3f} |"
    yield "\n## How good it is\n\n| held-out prose | bits per byte | of UTF-8 bytes |\n|---|---:|---:|"
    for language, (bits, num_bytes) in figures.items():
        yield f"| {language} | **{bits:.3f}** | {num_bytes:,} |"
    yield HELD_OUT
    yield "## Ten samples, unedited\n"
    names = ("temperature", "top_p", "repetition_penalty", "seed")
    values = ", ".join(f"`{name}={getattr(SAMPLING, name)}`" for name in names)
    yield f"{values}; the first answer to each.\n"
    llm = malmoi.load(directory)
    for question in QUESTIONS:
        answer = llm.chat([{"role": "user", "content": question}], SAMPLING)
        cut = "" if answer.finish_reason == "stop" else " […]"
        yield f"- **{_one_line(question)}**<br>{_one_line(answer.text)}{cut}"
    yield BOTTOM


def _minutes(run: Path) -> float:
    """What a run's steps took, by the median one: a run may have been paused."""
    rows = read_metrics(run / "metrics.jsonl")
    speed = statistics.median(row["tokens_per_second"] for row in rows)
    return rows[-1]["tokens"] / speed / 60


def _one_line(text: str) -> str:
    return " / ".join(line for line in text.splitlines() if line)


TOP = """---
license: cc-by-sa-4.0
language: [ko, en]
pipeline_tag: text-generation
---
# 말모이 기본 모델 · Malmoi's default model

설치하면 바로 말을 걸 수 있는 작은 한국어 모델입니다. {machine} 한 장으로 {minutes:.1f}분 학습했습니다.
도구를 시험하고 배우는 데 쓰라고 넣어 두었으니, 사실을 묻는 데 쓰지 마세요.

A small Korean model that answers right after installation. One {machine} trained it in {minutes:.1f} minutes.
It is there to try the tools and to learn from them, not to be believed.

A Llama of {parameters:.1f}M parameters ({megabytes:.0f} MB in bf16): {num_layers} layers of width {hidden_size},
{vocab_size:,} tokens (byte-level BPE, shared embedding and head), a context of {max_positions:,} tokens.
An ordinary Hugging Face directory:
`AutoModelForCausalLM` and `AutoTokenizer` load it too.

## How it was trained

`runs/default_model.sh`, from random weights. Muon for matrices, AdamW for the rest, bf16 activations over fp32 weights.
"""

HELD_OUT = """
Half a percent of the documents, chosen by a hash of their source and never trained on, in windows of the whole
context; the tokenizer did not see them either.
"""

BOTTOM = """
## What it cannot do

It makes up facts, names and numbers. It cannot calculate, reason over several steps, remember a long conversation, or
follow instructions unlike those it saw (small talk, short encyclopaedic answers, sentiment, short translations,
command-line help, spacing). Its prose follows Korean Wikipedia, film reviews and petitions: expect their errors, their
opinions and now and then their rude words. Do not use it where a wrong answer does harm.

## Data, licences, attribution

The weights and the tokenizer are derived from share-alike text and are under **CC BY-SA 4.0**. The code is Apache-2.0.

- Prose: Korean Wikipedia (ko.wikipedia.org and its authors, CC BY-SA 3.0); NSMC film reviews (e9t/nsmc, CC0 1.0);
  petitions (lovit/petitions_archive, CC0 1.0); documentation in Korean by MicrosoftDocs and its mirrors (CC BY 4.0),
  kubernetes/website, reactjs/ko.react.dev, vuejs-translations/docs-ko, github/opensource.guide and cncf/glossary
  (CC BY 4.0), tensorflow/docs-l10n, elixirschool and huggingface/course (Apache-2.0), d2l-ai/d2l-ko (CC BY-SA 4.0),
  rinthel/rust-lang-book-ko (MIT or Apache-2.0), PyTorchKorea/tutorials-kr (BSD-3-Clause). The weights have seen no page
  that is largely machine-translated (MicrosoftDocs and its mirrors); the tokenizer has.
- English: books in the public domain (mlschmitt/classic-books-markdown), python/python-docs-ko (PSF-2.0), and the
  English originals of the documentation above; of all of it the first 20 MB.
- Conversations: real text in our own prompt forms from the sources above and from KoBEST (SKT, CC BY-SA 4.0), KLUE
  (CC BY-SA 4.0), KorNLUDatasets (kakaobrain, CC BY-SA 4.0), korean-parallel-corpora (CC BY-SA 3.0), tldr-pages
  (CC BY 4.0); question and answer pairs of songys/Chatbot_data (MIT) and acceptable responses of SQuARe
  (naver-ai/korean-safety-benchmarks, MIT, HyperCLOVA text labelled by people); 78 lines about itself that we wrote.
  Short ones are also joined to conversations of several turns. Training splits only; the Bible is left out.
"""

if __name__ == "__main__":
    main()
