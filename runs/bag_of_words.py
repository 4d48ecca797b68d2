"""What a bag of words scores on NSMC and KorSTS: the baseline that an encoder has to beat.

TF-IDF of words and of runs of 1 to 4 characters, hashed into a fixed number of features. For sentiment a logistic
regression on them; for similarity the cosine of two sentences' features, and a linear regression on it, the cosine of
the words alone and the difference in length.

    python runs/bag_of_words.py DATA        # the directory with tasks/nsmc.* and tasks/korsts.*
"""

import sys
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from malmoi.data.files import find_files, read_rows
from malmoi.train.agreement import accuracy, balanced_accuracy, pearson, spearman

NUM_FEATURES = 2**19
EPOCHS = 4

Bag = tuple[Tensor, Tensor]
"""The numbers of features, and how often each is there or how much it weighs."""


def main() -> None:
    data = Path(sys.argv[1]) / "tasks"
    torch.manual_seed(0)
    sentiment(*(rows(data / f"nsmc.{split}.*") for split in ("train", "dev")))
    similarity(*(rows(data / f"korsts.{split}.*") for split in ("train", "dev")))


def rows(path: Path) -> list[dict[str, object]]:
    return [dict(row.fields) for file in find_files(path) for row in read_rows(file)]


def sentiment(train: list[dict[str, object]], dev: list[dict[str, object]]) -> None:
    texts = [[count_ngrams(str(row["text"])) for row in part] for part in (train, dev)]
    weights = inverse_document_frequency(texts[0])
    bags, dev_bags = ([tfidf(counts, weights) for counts in part] for part in texts)
    labels, dev_labels = (torch.tensor([int(str(row["label"])) for row in part]) for part in (train, dev))
    table = torch.nn.EmbeddingBag(NUM_FEATURES, 1, mode="sum", sparse=True)
    torch.nn.init.zeros_(table.weight)
    bias = torch.zeros(1, requires_grad=True)
    optimizers = [
        torch.optim.SparseAdam(table.parameters(), lr=0.03),
        torch.optim.Adam([bias], lr=0.03),
    ]
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(bags)).split(256):
            logits = table(*join([bags[i] for i in chosen.tolist()])).flatten() + bias
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[chosen].float())
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    with torch.no_grad():
        answers = (table(*join(dev_bags)).flatten() + bias > 0).long()
    commonest = labels.bincount().argmax().expand_as(dev_labels)
    for name, said in (("the commonest label of train", commonest), ("bag of words", answers)):
        scores = (
            f"accuracy {accuracy(said, dev_labels):.4f}, balanced {balanced_accuracy(said, dev_labels):.4f}"
        )
        print(f"NSMC dev ({len(dev_labels):,} reviews), {name}: {scores}", flush=True)


def similarity(train: list[dict[str, object]], dev: list[dict[str, object]]) -> None:
    ngrams = inverse_document_frequency(count_ngrams(text) for text in sentences(train))
    words = inverse_document_frequency(count_words(text) for text in sentences(train))

    def features(row: dict[str, object]) -> list[float]:
        first, second = str(row["s1"]), str(row["s2"])
        return [
            cosine(tfidf(count_ngrams(first), ngrams), tfidf(count_ngrams(second), ngrams)),
            cosine(tfidf(count_words(first), words), tfidf(count_words(second), words)),
            abs(len(first) - len(second)) / max(len(first), len(second)),
            1.0,
        ]

    x, dev_x = (torch.tensor([features(row) for row in part]) for part in (train, dev))
    y, dev_y = (torch.tensor([float(str(row["score"])) for row in part]) for part in (train, dev))
    solution = torch.linalg.lstsq(x, y[:, None]).solution
    for name, said in (("cosine", dev_x[:, 0]), ("regression", (dev_x @ solution)[:, 0])):
        scores = f"Pearson {pearson(said, dev_y):.4f}, Spearman {spearman(said, dev_y):.4f}"
        print(f"KorSTS dev ({len(dev_y):,} pairs), bag of words, {name}: {scores}", flush=True)


def sentences(pairs: Iterable[dict[str, object]]) -> list[str]:
    return [str(row[field]) for row in pairs for field in ("s1", "s2")]


def count_words(text: str) -> Bag:
    """Words by the number that they are hashed to, and how often each is there."""
    return count(f"word {word}" for word in text.split())


def count_ngrams(text: str) -> Bag:
    """Words, and runs of 1 to 4 characters within and across them."""
    padded = f" {' '.join(text.split())} "
    runs = [padded[at : at + size] for size in range(1, 5) for at in range(len(padded) - size + 1)]
    return count([*(f"word {word}" for word in text.split()), *runs])


def count(names: Iterable[str]) -> Bag:
    counts = Counter(zlib.crc32(name.encode()) % NUM_FEATURES for name in names)
    return torch.tensor(list(counts), dtype=torch.int32), torch.tensor(
        list(counts.values()), dtype=torch.float32
    )


def inverse_document_frequency(documents: Iterable[Bag]) -> Tensor:
    """For each feature log((1 + documents) / (1 + those that have it)) + 1."""
    having, num_documents = torch.zeros(NUM_FEATURES), 0
    for ids, _ in documents:
        having[ids] += 1
        num_documents += 1
    return ((1 + num_documents) / (1 + having)).log() + 1


def tfidf(bag: Bag, weights: Tensor) -> Bag:
    """Features and their weights, of length 1 together; a count of n weighs 1 + log n."""
    ids, counts = bag
    values = (1 + counts.log()) * weights[ids]
    return ids, values / values.norm().clamp(min=1e-9)


def join(bags: list[Bag]) -> tuple[Tensor, Tensor, Tensor]:
    """Bags end to end, as `EmbeddingBag` takes them: ids, where each bag begins, weights."""
    sizes = torch.tensor([0] + [len(ids) for ids, _ in bags[:-1]])
    return (
        torch.cat([ids for ids, _ in bags]).long(),
        sizes.cumsum(0),
        torch.cat([values for _, values in bags]),
    )


def cosine(one: Bag, other: Bag) -> float:
    mine = dict(zip(one[0].tolist(), one[1].tolist(), strict=True))
    return sum(mine.get(i, 0.0) * v for i, v in zip(other[0].tolist(), other[1].tolist(), strict=True))


if __name__ == "__main__":
    main()
