"""What can be typed in `malmoi chat` besides questions: `/help`, `/reset`, `/set temperature=0.2`, ...

A command is a function from the conversation and the text after its name to the line that is shown.
To add one, write the function and its row in `COMMANDS`. Read next: `conversation.py`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from prompt_toolkit.utils import get_cwidth

from malmoi.cli.conversation import Conversation
from malmoi.cli.sampling import sampling_changes
from malmoi.core.errors import DataError, RequestError


@dataclass(frozen=True)
class Command:
    """A slash command: its Korean name, what it takes, what it does, and the doing."""

    korean: str
    argument: str
    summary: str
    run: Callable[[Conversation, str], str]


def run_command(conversation: Conversation, line: str) -> str:
    """Do what `line`, which starts with `/`, says; return what to show. May mutate `conversation`.

    Raises:
        MalmoiError: there is no such command, or its argument is wrong.
        EOFError: the user wants to leave.
    """
    name, _, argument = line.partition(" ")
    for english, command in COMMANDS.items():
        if name in (english, command.korean):
            return command.run(conversation, argument.strip())
    raise RequestError(f"there is no command {name}. /help lists them. /도움말을 치면 명령이 나옵니다.")


def _help(_conversation: Conversation, _argument: str) -> str:
    summaries = {f"{english}, {row.korean} {row.argument}": row.summary for english, row in COMMANDS.items()}
    width = max(map(get_cwidth, summaries))  # in terminal columns: a syllable takes two
    rows = [f"  {usage}{' ' * (width - get_cwidth(usage))}  {text}" for usage, text in summaries.items()]
    return "\n".join([*rows, "  Ctrl-C: stop the answer; 답을 멈춤. Esc Enter: a new line; 줄 바꿈."])


def _reset(conversation: Conversation, _argument: str) -> str:
    conversation.turns.clear()
    return "(a new conversation; 새 대화입니다)"


def _undo(conversation: Conversation, _argument: str) -> str:
    question = conversation.undo()
    return f"(forgotten; 지웠습니다: {question})" if question else "(nothing to undo; 되돌릴 말이 없습니다)"


def _system(conversation: Conversation, text: str) -> str:
    conversation.system = text
    return f"(system: {text})" if text else "(no system message; 시스템 메시지가 없습니다)"


def _set(conversation: Conversation, assignment: str) -> str:
    changes = sampling_changes(assignments=[assignment] if assignment else [])
    conversation.params = replace(conversation.params, **changes)
    settings = vars(conversation.params)
    return "\n".join(f"  {name} = {settings[name]!r}" for name in changes or settings)


def _save(conversation: Conversation, name: str) -> str:
    if not name:
        raise DataError("/save needs a file name. 파일 이름을 적어 주세요: /save 대화.jsonl")
    path = Path(name).expanduser()
    line = json.dumps({"messages": conversation.messages}, ensure_ascii=False) + "\n"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(line)
    except FileExistsError:
        raise DataError(f"{path} exists and stays as it is. Give another name. 다른 이름을 주세요.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}. Give another name.") from None
    return f"(saved; 저장했습니다: {path})"


def _exit(_conversation: Conversation, _argument: str) -> str:
    raise EOFError


COMMANDS = {
    "/help": Command("/도움말", "", "this list; 이 목록", _help),
    "/reset": Command("/새로", "", "forget the conversation; 새 대화를 시작", _reset),
    "/undo": Command("/취소", "", "forget the last question and answer; 마지막 문답을 지움", _undo),
    "/system": Command("/시스템", "TEXT", "what the model is told first; 먼저 일러둘 말", _system),
    "/set": Command("/설정", "NAME=VALUE", "sampling, such as temperature=0.3; 생성 설정", _set),
    "/save": Command("/저장", "FILE", "write the conversation as JSON lines; 대화를 파일로 저장", _save),
    "/exit": Command("/끝", "", "leave, as Ctrl-D does; 나가기", _exit),
}
