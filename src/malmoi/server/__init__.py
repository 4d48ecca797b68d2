"""The server: models of this process for programs that speak to OpenAI, Anthropic or Ollama, and a page for people.

    app.py         what belongs together: routes, limits, errors
    catalogue.py   the models by name, loaded when they are first asked for
    bodies.py      what a request may say; what it says and nobody knows is an error that names it
    sampling.py    a body's parameters -> SamplingParams
    answered.py    an answer, whole or as it comes
    chat.py        /v1/chat/completions          completions.py   /v1/completions
    responses.py   /v1/responses, with responses_bodies; kept.py, the answers that it goes on from
    embeddings.py  /v1/embeddings                classify.py      /v1/classify, /v1/rerank
    render.py      /v1/chat/render               transcriptions.py  /v1/audio/transcriptions
    anthropic.py   /v1/messages                  ollama.py        /api/chat ..., with ollama_bodies, ollama_models
    models.py      /v1/models, /health, /ready   tokens.py        /tokenize, /detokenize
    metrics.py     /metrics                      measured.py      what it counts
    sse.py         answers as they come: server-sent events that end with whoever reads them
    wire.py        how each protocol writes them  dialect.py      and its errors
    each.py        several texts in one request
    trust.py       keys, sizes, how many at once, what a browser may load
    listen.py      uvicorn, and the one line that it prints
    errors.py      everything that went wrong, in OpenAI's form
    page/          the page: files for a browser, no build

Place in the flow: `malmoi serve` -> here -> `AsyncLLM`. Read next: `app.py`, then `chat.py`.
"""
