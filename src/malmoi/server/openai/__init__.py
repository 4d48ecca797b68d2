"""OpenAI's protocol.

    chat.py            /v1/chat/completions: chat_bodies.py, what may be asked; chat_prompt.py, of whom and what
    completions.py     /v1/completions: completion_bodies.py, what may be asked; text_form.py, how its texts are written
    form.py            what the answers of both have in common
    responses.py       /v1/responses: responses_bodies.py, _input.py, _items.py, _output.py
    kept.py            the answers that it goes on from
    embeddings.py      /v1/embeddings
    transcriptions.py  /v1/audio/transcriptions

Read next: `chat.py`.
"""
