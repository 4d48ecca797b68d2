"""Rules: all that one says has to hold, the first that holds decides, and it says why."""

from typing import Any

import pytest

from malmoi.core.config import from_mapping
from malmoi.core.errors import ConfigError
from malmoi.router.features import MAX_READ
from malmoi.router.question import Question
from malmoi.router.rules import Rule, first_rule

KOREAN = Question(text="오늘 날씨 어때?")


@pytest.mark.parametrize(
    ("condition", "holds", "fails", "why"),
    [
        ({"languages": ["ko"]}, KOREAN, Question(text="How are you?"), "is in ko"),
        ({"languages": ["code", "en"]}, Question(text="How are you?"), KOREAN, "is in en"),
        ({"min_characters": 1000}, Question(text="?", before="가" * 999), KOREAN, "has 1,000 characters"),
        ({"max_characters": 9}, KOREAN, Question(text="가" * 10), "has 9 characters"),
        ({"has_media": True}, Question(text="?", has_media=True), KOREAN, "has images or sounds"),
        ({"has_media": False}, KOREAN, Question(text="?", has_media=True), "has no images or sounds"),
        ({"has_tools": True}, Question(text="?", has_tools=True), KOREAN, "has tools"),
        ({"pattern": "날씨|기온"}, KOREAN, Question(text="안녕?"), 'says "날씨"'),
        (
            {"headers": {"X-Team": "legal|tax"}},
            Question(text="?", headers={"x-team": "tax"}),
            Question(text="?", headers={"x-team": "taxi"}),
            "comes with X-Team: tax",
        ),
    ],
)
def test_a_condition_holds_or_not_and_says_why(
    condition: dict[str, Any], holds: Question, fails: Question, why: str
) -> None:
    rule = from_mapping(Rule, {"name": "mine", "use": "big", **condition}, where="serve.toml")
    assert rule.why(holds) == f'rule "mine": it {why}'
    assert rule.why(fails) is None


def test_all_conditions_have_to_hold() -> None:
    rule = Rule(name="both", use="big", languages=("ko",), pattern="날씨")
    assert rule.why(KOREAN) == 'rule "both": it is in ko, and says "날씨"'
    assert rule.why(Question(text="안녕하세요")) is None
    assert rule.why(Question(text="The Korean word 날씨 means weather")) is None


def test_the_first_that_holds_decides() -> None:
    rules = [
        Rule(name="english", use="a", languages=("en",)),
        Rule(name="weather", use="b", pattern="날씨"),
        Rule(name="korean", use="c", languages=("ko",)),
    ]
    found = first_rule(rules, KOREAN)
    assert found is not None
    assert found[0].name == "weather"
    assert first_rule(rules[:1], KOREAN) is None


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "holds for everything"),
        ({"languages": []}, "holds for everything"),
        ({"languages": ["kr"]}, "'kr'"),
        ({"pattern": "("}, "no regular expression"),
        ({"headers": {"x-a": "["}}, "no regular expression"),
        ({"min_characters": 10, "max_characters": 5}, "10 to 5 characters"),
        ({"min_characters": -1}, "-1"),
        ({"max_characters": -5}, "-5 characters"),
        ({"language": ["ko"]}, "unknown key 'language'"),
        ({"use": "", "pattern": "x"}, "names no model"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_mapping(Rule, {"name": "mine", "use": "big", **rule}, where="serve.toml")
    assert told in str(raised.value)
    assert str(raised.value).startswith("serve.toml")


def test_a_pattern_is_looked_for_in_the_beginning_of_a_long_text() -> None:
    rule = Rule(name="mine", use="big", pattern="날씨")
    assert rule.why(Question(text="가" * (MAX_READ - 2) + "날씨"))
    assert rule.why(Question(text="가" * MAX_READ + "날씨")) is None
