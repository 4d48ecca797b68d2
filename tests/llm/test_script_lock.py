"""Under a lock an answer stays within its scripts, to the byte, and with few foreign words; what Korean text is made of
passes.
"""

import random
import re
from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models
from torch import Tensor

import malmoi
from malmoi.core.errors import RequestError
from malmoi.engine import LogitsRule, SamplingParams
from malmoi.llm.rules import MOST_LOCKS, Expected, Rules
from malmoi.llm.script_lock import WORDS_GRANTED, ScriptLock
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.scripts import UNASSIGNED, characters_of, script_of
from malmoi.text.tokenizer import Tokenizer

BYTES = ByteTokenizer()
SHIPPED = Tokenizer.load(malmoi.default_model())
LOCKS = {
    name: ScriptLock(tokenizer, ["hangul"], vocab_size=tokenizer.vocab_size + 5)
    for name, tokenizer in (("bytes", BYTES), ("shipped", SHIPPED))
}
TOKENIZERS = {"bytes": BYTES, "shipped": SHIPPED}
OWN = "".join(characters_of()["hangul"])
COUNTED = "".join(characters_of()["latin"] | characters_of()["greek"])
FENCED = re.compile(r"^ *```.*?(^ *```|\Z)", re.M | re.S)


def words(text: str) -> tuple[int, int]:
    """How many foreign words there are outside of fenced code, and how many in all."""
    prose = FENCED.sub("\n", text)
    foreign = len(re.findall(f"[{COUNTED}]+", prose))
    return foreign, foreign + len(re.findall(f"[{OWN}]+", prose))


def passes(lock: ScriptLock, ids: Sequence[int], latin_share: float = 0.3) -> bool:
    rule = lock.rule(stop_ids=[0], latin_share=latin_share)
    for token in ids:
        if not rule.allowed()[token]:
            return False
        rule.advance(token)
    return bool(rule.allowed()[0])


def walk(
    rule: LogitsRule, source: random.Random, tokenizer: Tokenizer, *, favoured: Sequence[int], length: int
) -> str:
    """Take allowed tokens at random, of `favoured` where one of them is allowed."""
    ids: list[int] = []
    while len(ids) < length or not mask_of(rule)[0]:  # to the end of a character
        mask = mask_of(rule)
        chosen = [token for token in favoured if mask[token]] if source.random() < 0.5 else []
        ids.append(source.choice(chosen or mask.nonzero().flatten().tolist()))
        rule.advance(ids[-1])
    return tokenizer.decode_bytes(ids, skip_special=True).decode("utf-8")  # strict: never half a character


def mask_of(rule: LogitsRule) -> Tensor:
    mask = rule.allowed()
    assert mask is not None
    return mask


@pytest.mark.parametrize("name", TOKENIZERS)
@given(seed=st.integers(0, 10_000), latin_share=st.sampled_from([0.0, 0.3, 0.7]))
@settings(max_examples=10)
def test_whatever_tokens_are_chosen_no_other_script_comes_and_foreign_words_stay_few(
    name: str, seed: int, latin_share: float
) -> None:
    tokenizer, source = TOKENIZERS[name], random.Random(seed)
    wanted = "漢字かなカナРусскийไทยعربي the model says `code`\n```\n"
    rule = LOCKS[name].rule(stop_ids=[0], latin_share=latin_share)
    text = walk(rule, source, tokenizer, favoured=sorted(set(tokenizer.encode(wanted))), length=100)
    assert {script_of(character) for character in text} <= {None, "hangul", "latin", "greek"}
    foreign, all_words = words(text)
    assert foreign <= latin_share * (WORDS_GRANTED + all_words) + 1e-9


KOREAN = {
    "prose": "말모이는 주시경의 사전 원고이다. ㅋㅋ, 뛰어! 값이 3,000원(10.5%)이다…",
    "old Hangul": "나랏말\u1112\u119e미 듕귁에 달아",
    "names and a model's number": "OpenAI의 GPT-4o는 2024년 5월에 나온 모형이다. 그 뒤로 여러 회사가 비슷한 것을 냈다.",
    "marks": "①②③ ㈜말모이 ㎏ ℃ ½ m² ± → ※ 「」 · 😀👨‍👩‍👧 #태그 @누구 https://",
    "a formula": "넓이는 πr²이고, 둘레는 2πr이다.",
    "fenced code": '다음과 같이 쓴다.\n```python\nimport torch\nfor i in range(10):\n    print("hello world", i)\n'
    "def add(left, right): return left + right\n```\n끝이다.",
}


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", KOREAN.values(), ids=KOREAN.keys())
def test_what_korean_text_is_made_of_passes(name: str, text: str) -> None:
    assert passes(LOCKS[name], TOKENIZERS[name].encode(text))


FOREIGN = {
    "han": "말모이는 漢字",
    "kana": "말모이는 かな",
    "cyrillic": "말모이는 Русский",
    "thai": "말모이는 ไทย",
    "arabic": "말모이는 عربي",
    "han in code": "```\n漢字\n```",
    "rare han": "말모이는 𠀀",
    "radical": "말모이는 ⼀",
    "private use": "말모이는 \ue000",
    "english": "I am a language model and so on",
    "english after code": "```\ncode\n```\nI am a language model",
    "english in single backticks": "`I am a language model`",
    "english in one line with a fence that is none": "말 ```I am a language model",
    "english without spaces": "andon" * 20,
}


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_foreign_to_it_does_not_pass(name: str, text: str) -> None:
    assert not passes(LOCKS[name], TOKENIZERS[name].encode(text))


@pytest.mark.parametrize(
    ("text", "is_passing"),
    [
        ("one two three four", True),  # 4 <= 0.3 * (10 + 4)
        ("one two three four five", False),  # 5 > 0.3 * (10 + 5)
        ("말 " + "one two three four five", False),  # 5 > 0.3 * (10 + 6)
        ("말 " * 2 + "one two three four five", True),  # 5 <= 0.3 * (10 + 7)
        ("one two three 말 말 말 말 four", True),  # 4 <= 0.3 * (10 + 8)
    ],
)
def test_the_words_are_counted_as_documented(text: str, is_passing: bool) -> None:
    foreign, all_words = words(text)
    assert (foreign <= 0.3 * (WORDS_GRANTED + all_words)) == is_passing
    assert passes(LOCKS["shipped"], SHIPPED.encode(text)) == is_passing


def test_a_token_that_frames_text_is_no_word() -> None:
    backend = tokenizers.Tokenizer.from_str(BYTES.backend.to_str())
    backend.add_tokens([AddedToken("<think>", special=False), AddedToken("漢", special=False)])
    tokenizer = Tokenizer(backend.to_str())
    think, han = tokenizer.token_id("<think>"), tokenizer.token_id("漢")
    assert think is not None
    assert han is not None
    lock = ScriptLock(tokenizer, ["hangul"], vocab_size=tokenizer.vocab_size)
    assert passes(lock, [think, *tokenizer.encode("말"), think], latin_share=0)
    assert not passes(lock, [han])


def test_a_share_of_nothing_leaves_latin_to_code_and_one_of_all_counts_nothing() -> None:
    lock = LOCKS["bytes"]
    assert not passes(lock, BYTES.encode("a"), latin_share=0)
    assert passes(lock, BYTES.encode("```\nabc\n```\n말"), latin_share=0)
    assert passes(lock, BYTES.encode("one two three four five"), latin_share=1)
    assert not passes(lock, BYTES.encode("漢"), latin_share=1)


def test_a_script_that_is_named_is_free() -> None:
    lock = ScriptLock(BYTES, ["latin", "han", "hangul"], vocab_size=BYTES.vocab_size)
    assert passes(lock, BYTES.encode("one two three four five 漢字 한글"), latin_share=0)
    assert not passes(lock, BYTES.encode("かな"))


def test_a_vocabulary_without_bytes_is_locked_too() -> None:
    vocabulary = {token: number for number, token in enumerate("한글漢字abcж ")}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Fuse()
    tokenizer = Tokenizer(backend.to_str())
    lock = ScriptLock(tokenizer, ["hangul"], vocab_size=tokenizer.vocab_size)
    allowed = lock.rule(stop_ids=[], latin_share=0).allowed().nonzero().flatten().tolist()
    text = tokenizer.decode(allowed, skip_special=True)
    assert set(text) == set("한글 ")


def test_nothing_ends_inside_a_character() -> None:
    rule = LOCKS["bytes"].rule(stop_ids=[0, 7], latin_share=0.3)
    assert rule.allowed()[[0, 7]].tolist() == [True, True]
    for byte in BYTES.encode("한")[:2]:
        rule.advance(byte)
        assert rule.allowed()[[0, 7]].tolist() == [False, False]


def test_a_copy_goes_its_own_way_and_no_token_upsets_a_rule() -> None:
    rule = LOCKS["bytes"].rule(stop_ids=[0], latin_share=0.3)
    copy = rule.copy()
    for token in (BYTES.encode("한")[0], BYTES.encode("a")[0], BYTES.vocab_size + 3, 0):
        copy.advance(token)
    assert rule.allowed().equal(LOCKS["bytes"].rule(stop_ids=[0], latin_share=0.3).allowed())


@pytest.mark.parametrize(
    ("script", "said"),
    [("hangull", "Did you mean 'hangul'"), ("korean", "Name one as Unicode does"), ("unassigned", "")],
)
def test_a_script_that_there_is_not_is_refused(script: str, said: str) -> None:
    with pytest.raises(RequestError, match=f"script_lock='{script}' is not a script. {said}"):
        tiny_llm().generate("?", SamplingParams(script_lock=script))


def test_a_model_that_wants_to_write_chinese_does_not_under_the_lock() -> None:
    script = BYTES.encode("漢字는 中國의 글자")
    llm = tiny_llm(ScriptedModel(script, num_prompt=1, vocab_size=300))
    free = SamplingParams(temperature=0, max_tokens=len(script))
    assert llm.generate("?", free).text == "漢字는 中國의 글자"
    for seed in range(5):
        locked = SamplingParams(seed=seed, script_lock="hangul", min_tokens=30, max_tokens=30)
        text = llm.generate("?", locked).text
        assert {script_of(character) for character in text} <= {None, "hangul", "latin", "greek"}


def test_no_byte_begins_only_symbols_that_stand_among_chinese_characters() -> None:
    rule = LOCKS["bytes"].rule(stop_ids=[0], latin_share=0.3)
    hexagram, nearest = BYTES.encode("䷯"), BYTES.encode("一")  # else e4, meant as Chinese, would become one
    assert not rule.allowed()[hexagram[0]]
    assert not rule.allowed()[nearest[0]]


def test_however_many_sets_of_scripts_are_asked_for_few_locks_are_kept() -> None:
    rules = Rules(BYTES, vocab_size=BYTES.vocab_size)
    scripts = sorted(script for script in characters_of() if script not in (None, UNASSIGNED))[
        : MOST_LOCKS + 4
    ]
    for script in scripts:
        assert rules.rule(SamplingParams(script_lock=script), Expected(), stop_ids=frozenset({0}))
    assert list(rules._locks) == [frozenset({script}) for script in scripts[4:]]


def test_a_form_and_a_lock_hold_together_and_the_keys_of_an_object_are_not_counted() -> None:
    llm = tiny_llm(tiny_llama(max_positions=256))
    names = [f"key{number}" for number in "abc"]
    schema = {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": 4} for name in names},
        "required": names,
        "additionalProperties": False,
    }
    for seed in range(2):
        params = SamplingParams(seed=seed, temperature=1.5, json_schema=schema, script_lock="hangul")
        text = llm.generate("?", params).text
        assert re.findall("key[a-c]", text) == names
        assert {script_of(character) for character in text} <= {None, "hangul", "latin", "greek"}
