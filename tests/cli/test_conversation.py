"""What `malmoi chat` keeps of a conversation, and what the slash commands do to it."""

import json
from pathlib import Path

import pytest

from malmoi.cli.conversation import Conversation
from malmoi.cli.slash import COMMANDS, run_command
from malmoi.core.errors import DataError, MalmoiError, RequestError
from malmoi.engine import SamplingParams

from .conftest import ParrotLLM


@pytest.fixture
def conversation(parrot: ParrotLLM) -> Conversation:
    return Conversation(parrot, SamplingParams(), system="존댓말로 답해요.")


def answer(conversation: Conversation, question: str) -> str:
    return "".join(delta.text for delta in conversation.ask(question))


def roles(conversation: Conversation) -> list[str]:
    return [message["role"] for message in conversation.messages]


def test_the_model_hears_the_whole_conversation_each_time(
    conversation: Conversation, parrot: ParrotLLM
) -> None:
    assert answer(conversation, "안녕?") == "안녕하세요."
    answer(conversation, "날씨 좋지?")
    heard, _params = parrot.heard[1]
    assert heard == [
        {"role": "system", "content": "존댓말로 답해요."},
        {"role": "user", "content": "안녕?"},
        {"role": "assistant", "content": "안녕하세요."},
        {"role": "user", "content": "날씨 좋지?"},
    ]


def test_an_answer_that_is_stopped_stays_as_far_as_it_got(conversation: Conversation) -> None:
    pieces = conversation.ask("안녕?")
    next(pieces)
    pieces.close()
    assert conversation.turns[-1] == {"role": "assistant", "content": "안녕"}


def test_a_question_that_fails_is_taken_back(conversation: Conversation, parrot: ParrotLLM) -> None:
    parrot.answers[0] = RequestError("too long")
    with pytest.raises(RequestError):
        list(conversation.ask("긴 글"))
    assert conversation.turns == []
    assert answer(conversation, "다시") == "네, 좋아요."


def test_undo_takes_back_one_question_and_its_answer(conversation: Conversation) -> None:
    for question in ("하나", "둘"):
        list(conversation.ask(question))
    assert "둘" in run_command(conversation, "/undo")
    assert roles(conversation) == ["system", "user", "assistant"]
    run_command(conversation, "/취소")
    assert roles(conversation) == ["system"]
    assert "nothing to undo" in run_command(conversation, "/undo")


def test_reset_keeps_the_system_message(conversation: Conversation) -> None:
    list(conversation.ask("하나"))
    run_command(conversation, "/reset")
    assert roles(conversation) == ["system"]


def test_system_changes_what_comes_first_and_keeps_the_turns(conversation: Conversation) -> None:
    list(conversation.ask("하나"))
    run_command(conversation, "/시스템 반말로 답해.")
    assert conversation.messages[0] == {"role": "system", "content": "반말로 답해."}
    run_command(conversation, "/system")
    assert roles(conversation) == ["user", "assistant"]


def test_set_changes_the_parameters_of_the_next_answer(conversation: Conversation, parrot: ParrotLLM) -> None:
    assert run_command(conversation, "/set temperature=0.25") == "  temperature = 0.25"
    assert "  top_k = 0\n" in run_command(conversation, "/set")
    list(conversation.ask("하나"))
    assert parrot.heard[0][1].temperature == 0.25


@pytest.mark.parametrize(
    "line", ["/set temperature=-1", "/set temprature=1", "/set temperature", "/save", "/nope"]
)
def test_a_wrong_command_is_an_error_and_changes_nothing(conversation: Conversation, line: str) -> None:
    before = conversation.params
    with pytest.raises(MalmoiError):
        run_command(conversation, line)
    assert conversation.params is before


def test_save_writes_a_training_sample_and_never_over_a_file(
    conversation: Conversation, tmp_path: Path
) -> None:
    list(conversation.ask("안녕?"))
    file = tmp_path / "대화.jsonl"
    run_command(conversation, f"/save {file}")
    assert json.loads(file.read_text("utf-8")) == {"messages": conversation.messages}
    with pytest.raises(DataError, match="exists and stays as it is"):
        run_command(conversation, f"/저장 {file}")


def test_save_into_a_directory_that_is_not_there_says_so(conversation: Conversation, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory"):
        run_command(conversation, f"/save {tmp_path}/없음/대화.jsonl")


def test_help_lists_every_command_in_both_languages(conversation: Conversation) -> None:
    text = run_command(conversation, "/help")
    assert all(name in text and command.korean in text for name, command in COMMANDS.items())
    assert run_command(conversation, "/도움말") == text


@pytest.mark.parametrize("line", ["/exit", "/끝"])
def test_exit_leaves_as_ctrl_d_does(conversation: Conversation, line: str) -> None:
    with pytest.raises(EOFError):
        run_command(conversation, line)
