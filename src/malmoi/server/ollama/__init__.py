"""Ollama's protocol.

    bodies.py -> prompt.py -> answers.py, /api/chat, /api/generate, /api/embed -> lines.py, an answer in lines
    models.py    /api/tags, /api/show, /api/ps, /api/version

Read next: `answers.py`.
"""
