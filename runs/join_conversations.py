"""Short conversations -> conversations of many turns, in which what comes next has little to do with what came before.

A model that only saw single questions answers the second with its first answer again. Here each question has its own
answer, whatever was said before. Small talk makes up most of it; some turns are about the model itself, some are
other short tasks. What is held out of its source is not in it. `recipes/default_model.py` reads the result.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import zstandard

from malmoi.data.documents import Conversation
from malmoi.data.sources import SourceConfig, read_documents
from malmoi.recipes.default_model import PERSONA, SMALL_TALK, VERSES

Messages = list[dict[str, str]]
NUM_PASSES = 4  # how often each exchange of small talk comes, with other neighbours
MAX_EXCHANGES = 7
MAX_CHARACTERS = 300  # of another task's question and answer
OPENING, PERSONA_SHARE, OTHER_SHARE = 0.25, 0.06, 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="directory of chat-ko.jsonl.zst")
    parser.add_argument("--out", type=Path, default=Path("out/default-turns.jsonl.zst"))
    arguments = parser.parse_args()
    chat = f"{arguments.data}/chat-ko.jsonl.zst"
    small_talk = read(
        SourceConfig(path=chat, messages_field="messages", include=SMALL_TALK, holdout_by="text")
    )
    other = read(SourceConfig(path=chat, messages_field="messages", exclude=SMALL_TALK + VERSES))
    short = [said for said in other if sum(len(message["content"]) for message in said) <= MAX_CHARACTERS]
    persona = read(SourceConfig(path=str(PERSONA), messages_field="messages", holdout_permille=0))
    rows = [
        json.dumps(
            {"messages": said, "source": "malmoi:turns", "license": "CC-BY-SA-4.0"}, ensure_ascii=False
        )
        for said in joined(small_talk, short, persona, Random(0))
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(zstandard.compress("".join(f"{row}\n" for row in rows).encode(), 10))
    print(f"{arguments.out}: {len(rows)} conversations")


def read(source: SourceConfig) -> list[Messages]:
    """The conversations that are trained on."""
    documents = read_documents(source)
    return [
        [dict(m) for m in document.messages] for document in documents if isinstance(document, Conversation)
    ]


def joined(
    small_talk: list[Messages], other: list[Messages], persona: list[Messages], random: Random
) -> Iterator[Messages]:
    """Each exchange of small talk `NUM_PASSES` times, in conversations of two to `MAX_EXCHANGES`."""
    for _ in range(NUM_PASSES):
        left = random.sample(small_talk, len(small_talk))
        while left:
            exchanges = [random.choice(persona)] if random.random() < OPENING else []
            for _ in range(random.randint(2, MAX_EXCHANGES) - len(exchanges)):
                dice = random.random()
                if dice < PERSONA_SHARE:
                    exchanges.append(random.choice(persona))
                elif dice < PERSONA_SHARE + OTHER_SHARE:
                    exchanges.append(random.choice(other))
                elif left:
                    exchanges.append(left.pop())
            if len(exchanges) > 1:
                yield [message for exchange in exchanges for message in exchange]


if __name__ == "__main__":
    main()
