"""Gaps in texts: each family's marks and order, what ends a middle, and what is no mark whatever it looks like."""

import pytest

from malmoi.core.errors import RequestError
from malmoi.engine import SamplingParams
from malmoi.llm import LLM, Infill
from malmoi.llm.infill import FORMATS, GapFormat, find
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm, tiny_t5
from malmoi.testing.tokenizer import ByteTokenizer

GAP = Infill("def f(x):\n    return ", "\n\nprint(f(1))")


def marks(family: GapFormat) -> list[str]:
    return [mark for mark in (family.before, family.after, family.middle) if mark]


@pytest.mark.parametrize("family", FORMATS, ids=lambda family: family.before)
def test_a_gap_is_written_as_its_family_has_learned_it(family: GapFormat) -> None:
    tokenizer = ByteTokenizer(["<|endoftext|>", *marks(family)])
    assert find(tokenizer) == family
    text = tokenizer.decode(family.ids(GAP, tokenizer))
    if family.middle:
        assert text == f"{family.before}{GAP.before}{family.after}{GAP.after}{family.middle}"
    else:
        assert text == f"{family.after}{GAP.after}{family.before}{GAP.before}"


@pytest.mark.parametrize("ending", ["<|endoftext|>", "<|fim_pad|>", "<|fim_prefix|>"])
def test_a_middle_ends_at_a_stop_id_or_another_mark(ending: str) -> None:
    tokenizer = ByteTokenizer(["<|endoftext|>", *marks(FORMATS[0]), "<|fim_pad|>"])
    listening = LLM(tiny_llama(vocab_size=tokenizer.vocab_size), tokenizer, stop_ids=[0])
    script = [*tokenizer.encode("x + 1"), tokenizer.special_tokens[ending]]
    model = ScriptedModel(script, num_prompt=len(listening.prompt_ids(GAP)), vocab_size=tokenizer.vocab_size)
    llm = LLM(model, tokenizer, stop_ids=[0])
    assert llm.abilities.fills_gaps
    params = SamplingParams(temperature=0, max_tokens=20)
    assert list(llm.stream(GAP, params)) == list("x + 1")
    assert "".join(delta.text for delta in llm.deltas(GAP, params)) == "x + 1"
    assert llm.generate(GAP, params).text == "x + 1"


def test_marks_in_a_text_are_text() -> None:
    tokenizer = ByteTokenizer(["<|endoftext|>", *marks(FORMATS[0])])
    ids = FORMATS[0].ids(Infill("<|fim_middle|>", ""), tokenizer)
    assert [token for token in ids if token < 4] == [1, 2, 3]


@pytest.mark.parametrize("llm", [tiny_llm(), tiny_llm(tiny_t5())], ids=["no marks", "encoder-decoder"])
def test_a_model_that_fills_no_gaps_says_so(llm: LLM) -> None:
    assert not llm.abilities.fills_gaps
    for ask in (llm.stream, llm.generate):
        with pytest.raises(RequestError, match="fills no gaps"):
            ask(GAP)
