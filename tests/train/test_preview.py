"""Laws of train/preview.py: what is shown as learned is what the loss counts."""

from itertools import islice

from malmoi.data.pack import PackedStream
from malmoi.data.samples import NO_TARGET, Encoder
from malmoi.data.sources import SourceConfig
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate
from malmoi.train.preview import masked_samples

TOKENIZER = ByteTokenizer()
ENCODER = Encoder(tokenizer=TOKENIZER, template=ChatTemplate.default())


def test_the_answer_and_its_end_are_learned_and_nothing_else(chat_file: str) -> None:
    source = SourceConfig(path=chat_file, messages_field="messages", holdout_permille=0)
    first, *_ = samples = masked_samples([source], ENCODER, count=4)
    assert len(samples) == 4
    assert first.pieces[-1] == ("네, 0.<|im_end|>", True)
    assert [learned for _, learned in first.pieces] == [False, True]
    assert first.pieces[0][0].endswith("assistant\n")


def test_the_pieces_are_the_tokens_and_targets_of_training(chat_file: str) -> None:
    source = SourceConfig(path=chat_file, messages_field="messages", holdout_permille=0)
    samples = masked_samples([source], ENCODER, count=20)
    stream = PackedStream(
        [source], ENCODER, tokens_per_batch=256, context_length=256, num_epochs=1, shuffle_characters=0
    )
    learned = sum(int((batch.targets != NO_TARGET).sum()) for batch in islice(stream, 100))
    assert sum(sample.num_learned for sample in samples) == learned
    for sample in samples:
        assert len(TOKENIZER.encode_special("".join(text for text, _ in sample.pieces))) == sample.num_tokens


def test_prose_has_nothing_to_show(make_run) -> None:
    assert masked_samples(make_run().sources, ENCODER) == []
