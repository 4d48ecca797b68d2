r"""Calls of tools: how a family writes them, found in its template, read as they come, and forced where they must come.

    ChatPrompt.tools -> Tool -> the template shows them        template -> find -> CallFormat
    CallFormat, tools -> CALLING -> a grammar for the engine's rule | a reader: text -> content, CallDelta

| family                                | a call in its text                                             |
|---------------------------------------|----------------------------------------------------------------|
| Hermes, Qwen2.5, Qwen3, EXAONE 4, ours | `<tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>` |
| Qwen3-Coder, Qwen3.5                  | `<tool_call>\n<function=f>\n`, a tag for each argument          |
| Mistral, v3 to v7                     | `[TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]`         |
| Mistral, later                        | `[TOOL_CALLS]f[ARGS]{...}`, in between also `[CALL_ID]...`     |
| Llama 3                               | `{"name": "f", "parameters": {...}}`, instead of an answer     |
| DeepSeek-V3                           | `<｜tool▁calls▁begin｜>`, then each call between marks and fences |
| DeepSeek-V3.1                         | the same without fences: `f<｜tool▁sep｜>{...}`                 |

Looked up in the chat templates of these models. A template that reads no `tools`, or writes calls in another way (GLM's
`<arg_key>`), takes none here. Read next: `formats.py`, `reader.py`, `calling.py`.
"""

from malmoi.llm.tools.calling import Calling
from malmoi.llm.tools.formats import CallFormat, find
from malmoi.llm.tools.offered import Tool, offered

__all__ = ["CallFormat", "Calling", "Tool", "find", "offered"]
