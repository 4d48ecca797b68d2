"""Anthropic's protocol: /v1/messages and /v1/messages/count_tokens.

    bodies.py -> prompt.py, a conversation -> messages.py, the endpoints -> message.py, an answer in blocks

Read next: `messages.py`.
"""
