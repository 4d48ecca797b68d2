"""Rendering: equal to `transformers` for every format; then the errors, and the files."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from malmoi.core.errors import TemplateError
from malmoi.text.chat import ChatTemplate, Rendered

from .formats import (
    CONTROL,
    FORMATS,
    assistant,
    backend,
    call,
    result,
    source,
    system,
    taught,
    template,
    theirs,
    tokenizer,
    user,
    weather_tool,
)

CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one question": [user("안녕하세요?")],
    "an answer": [user("안녕 "), assistant("  반가워요.\n")],
    "instructions": [system("친절하게."), user("hi"), assistant("hello")],
    "several turns": [
        system("s"),
        user('a {x} "q" <b>'),
        assistant("b"),
        user("c\n"),
        assistant("d\n\ne"),
        user("f"),
    ],
    "thoughts apart": [
        user("a"),
        assistant("b", reasoning_content="음"),
        user("c"),
        assistant("d", reasoning="음"),
    ],
    "thoughts inside": [
        user("a"),
        assistant("<think>\n음\n</think>\n\nb"),
        user("c"),
        assistant("<think>\nm\n</think>\n\nd"),
    ],
    "a key without value": [user("a"), {**assistant("b"), "tool_calls": None, "name": None}],
}
WITH_TOOLS = [
    user("날씨?"),
    call("weather", {"city": '서울 "종로"', "days": 3}),
    result("맑음, 20도"),
    assistant("맑아요."),
]


def check_equal_to_transformers(name: str, messages: list[dict[str, Any]], **options: Any) -> Rendered:
    ours = template(name).render(messages, tokenizer(), **options)
    text = theirs(name).apply_chat_template(messages, tokenize=False, **options)
    assert ours.text == text
    assert ours.ids == theirs(name)(text, add_special_tokens=False)["input_ids"]
    assert len(ours.loss_mask) == len(ours.ids)
    return ours


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", FORMATS)
def test_text_and_ids_are_those_of_transformers(
    name: str, conversation: str, add_generation_prompt: bool
) -> None:
    messages = CONVERSATIONS[conversation]
    check_equal_to_transformers(name, messages, add_generation_prompt=add_generation_prompt)


@pytest.mark.parametrize("tools", [None, [weather_tool("날씨 <b>'오늘'</b>")]])
@pytest.mark.parametrize("end", [1, 3, 4])
@pytest.mark.parametrize("name", ["llama3", "mistral", "qwen3", "deepseek"])
def test_tools_calls_and_results_are_rendered_as_by_transformers(name: str, end: int, tools: Any) -> None:
    check_equal_to_transformers(name, WITH_TOOLS[:end], tools=tools, add_generation_prompt=end != 4)


def test_a_list_of_parts_is_rendered_as_by_transformers() -> None:
    picture = object()  # a template may see that there is one, not what it is
    parts = [{"type": "image", "image": picture}, {"type": "text", "text": " 무엇인가요? "}]
    rendered = check_equal_to_transformers("gemma", [user(parts)], add_generation_prompt=True)
    assert (
        rendered.text
        == "<bos><start_of_turn>user\n<start_of_image>무엇인가요?<end_of_turn>\n<start_of_turn>model\n"
    )


PIECES = [
    "가", "안녕", "ᄒ", "ㅋ", " ", "\n", "\t", '"', "'", "\\", "<", ">", "|", "<|", "im_end", "[", "INST", "]",
    "/", "{", "}", "{{", "%}", "a", "1", "é", "👩‍👧", "\ue000", "\U000f0000", "</", "think", "\u200b", "\x00",
]  # fmt: skip
harmless = (
    st.lists(st.sampled_from(PIECES), max_size=8)
    .map(lambda pieces: unicodedata.normalize("NFC", "".join(pieces)))
    .filter(lambda text: not CONTROL.search(text))
)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(FORMATS), st.lists(harmless, min_size=4, max_size=4))
def test_whatever_is_said_the_ids_are_those_of_transformers(name: str, said: list[str]) -> None:
    messages = [system(said[0]), user(said[1]), assistant(said[2]), user(said[3])]
    check_equal_to_transformers(name, messages, add_generation_prompt=True)


def test_qwen3_shows_thoughts_only_after_the_last_question() -> None:
    messages = CONVERSATIONS["thoughts apart"]
    last = "<|im_start|>assistant\n<think>\n음\n</think>\n\nd<|im_end|>\n"
    assert template("qwen3").render(messages, tokenizer()).text == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
        + last
    )


@pytest.mark.parametrize("enable_thinking", [True, False])
def test_variables_of_the_template_reach_it(enable_thinking: bool) -> None:
    prompt = check_equal_to_transformers(
        "qwen3", [user("hi")], add_generation_prompt=True, enable_thinking=enable_thinking
    )
    assert prompt.text.endswith("<think>\n\n</think>\n\n") is not enable_thinking


@pytest.mark.parametrize("content", ["그것은", "그것은 "])
@pytest.mark.parametrize("name", FORMATS)
def test_a_message_can_be_left_open(name: str, content: str) -> None:
    open_end = check_equal_to_transformers(
        name, [user("무엇?"), assistant(content)], continue_final_message=True
    )
    assert open_end.text.rstrip().endswith("그것은")
    assert not any(open_end.loss_mask)


def test_the_last_part_of_a_message_can_be_left_open() -> None:
    parts = [{"type": "text", "text": "그것은"}, {"type": "text", "text": " 책"}]
    check_equal_to_transformers("gemma", [user("무엇?"), assistant(parts)], continue_final_message=True)


def test_equal_texts_from_different_keyboards_are_equal_ids() -> None:
    composed, decomposed = ([user(unicodedata.normalize(form, "한글"))] for form in ("NFC", "NFD"))
    chatml = template("chatml")
    assert chatml.render(decomposed, tokenizer(), add_generation_prompt=True) == chatml.render(
        composed, tokenizer(), add_generation_prompt=True
    )
    as_it_is = ChatTemplate(source("chatml"), nfc=False).render(
        decomposed, tokenizer(), add_generation_prompt=True
    )
    assert unicodedata.normalize("NFD", "한글") in as_it_is.text


# The default format


TWO_TURNS = [system("친절하게."), user("안녕"), assistant("반가워요."), user("또?"), assistant("네 🙂")]


def test_the_default_format_and_its_mask_are_those_of_transformers(tmp_path: Path) -> None:
    tokenizer().save(tmp_path)
    ChatTemplate.default().save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    theirs = reference.apply_chat_template(TWO_TURNS, return_assistant_tokens_mask=True, return_dict=True)
    ours = ChatTemplate.load(tmp_path).render(TWO_TURNS, tokenizer())
    assert ours.ids == theirs["input_ids"]
    assert ours.loss_mask == [bool(bit) for bit in theirs["assistant_masks"]]
    assert taught(ours.ids, ours.loss_mask) == ["반가워요.<|im_end|>", "네 🙂<|im_end|>"]


def test_the_default_format_takes_text_parts_and_nothing_else() -> None:
    default = ChatTemplate.default()
    parts = [{"type": "text", "text": "이것은 "}, {"type": "text", "text": "무엇?"}]
    assert default.render([user(parts)], tokenizer()) == default.render([user("이것은 무엇?")], tokenizer())
    for messages, message in (
        ([user([{"type": "image"}])], "list of parts of the type text"),
        ([user(None)], "content must be text"),
        (
            [{"role": "critic", "content": "음"}],
            "the role critic is unknown, use system, user, assistant or tool",
        ),
    ):
        with pytest.raises(TemplateError, match=message):
            default.render(messages, tokenizer())


def test_the_default_format_shows_tools_calls_and_results_and_teaches_calls() -> None:
    past = [
        system("짧게."),
        user("날씨?"),
        call("weather", {"city": "서울"}),
        result("맑음"),
        assistant("맑아요."),
    ]
    rendered = ChatTemplate.default().render(past, tokenizer(), tools=[weather_tool("날씨")])
    asked = '<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n</tool_call><|im_end|>'
    assert taught(rendered.ids, rendered.loss_mask) == [asked, "맑아요.<|im_end|>"]
    assert rendered.text.startswith("<|im_start|>system\n짧게.\n\n")
    assert "<|im_start|>tool\n맑음<|im_end|>" in rendered.text
    reference = PreTrainedTokenizerFast(
        tokenizer_object=backend(), chat_template=ChatTemplate.default().sources["default"]
    )
    assert rendered.text == reference.apply_chat_template(past, tokenize=False, tools=[weather_tool("날씨")])
    without = ChatTemplate.default().render(past[1:2], tokenizer(), tools=[weather_tool("날씨")])
    assert without.text.startswith("<|im_start|>system\nThese functions")
    assert "weather" in without.text.partition("<tools>")[2]


# Files


def write_config(directory: Path, **config: Any) -> None:
    (directory / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def test_a_template_is_found_where_checkpoints_have_it(tmp_path: Path) -> None:
    write_config(
        tmp_path, chat_template="{{ bos_token }}config", bos_token={"content": "<s>"}, eos_token=None
    )
    assert ChatTemplate.load(tmp_path).render([user("a")], tokenizer()).text == "<s>config"
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}파일", "utf-8")
    assert ChatTemplate.load(tmp_path).render([user("a")], tokenizer()).text == "<s>파일"


def test_tools_choose_the_template_made_for_them(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    write_config(tmp_path, chat_template=named)
    for again in range(2):
        loaded = ChatTemplate.load(tmp_path)
        assert loaded.render([user("a")], tokenizer()).text == "plain", again
        assert loaded.render([user("a")], tokenizer(), tools=[]).text == "tools", again
        tmp_path /= "saved"
        loaded.save(tmp_path)


# Errors


def test_a_directory_without_a_template_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=f"{tmp_path} has no chat template"):
        ChatTemplate.load(tmp_path)


def test_a_syntax_error_names_the_file_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("a\n{% for %}", "utf-8")
    with pytest.raises(TemplateError, match=rf"{tmp_path} is not valid Jinja, line 2: "):
        ChatTemplate.load(tmp_path)


def test_named_templates_need_a_default() -> None:
    with pytest.raises(TemplateError, match="none of \\['rag'\\] is named \"default\""):
        ChatTemplate({"rag": ""})


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "the conversation is empty"),
        ([user("a"), {"content": "b"}], "message 1 is .*, not a mapping with a role"),
        ([user("\ud800")], "half a character"),
        ([assistant("a")], 'refuses this conversation: "Conversation roles must alternate."'),
        ([user(3)], "the chat template failed, TypeError: .* Check that the messages"),
    ],
)
def test_what_cannot_be_rendered_is_refused_with_the_reason(messages: Any, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        template("gemma").render(messages, tokenizer())


def test_a_new_message_and_the_last_one_cannot_both_be_open() -> None:
    with pytest.raises(TemplateError, match="Set one"):
        template("chatml").render(
            [user("a")], tokenizer(), add_generation_prompt=True, continue_final_message=True
        )


@pytest.mark.parametrize("last", [assistant(""), assistant(None), assistant([{"type": "image"}])])
def test_a_message_that_is_not_shown_cannot_be_continued(last: dict[str, Any]) -> None:
    hides_answers = ChatTemplate("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    with pytest.raises(TemplateError, match="cannot be continued|no text to continue"):
        hides_answers.render([user("a"), last], tokenizer(), continue_final_message=True)
