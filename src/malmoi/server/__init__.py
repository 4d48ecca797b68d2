"""The server: models, here and elsewhere, for programs that speak to OpenAI, Anthropic or Ollama, and for people.

    app.py         what belongs together: routes, limits, errors
    catalogue.py   the models by name             entry.py        what may stand behind one:
    local.py       a model of this process        loaded.py       and what it is once it is there
    upstream/      one of another machine         routed.py       one of the others, for each request
    room.py        memory that models share       holds.py        how long a request needs one
    writer.py      who answers, wherever it runs  price.py        and for how much
    bodies.py      what a request may say; what it says and nobody knows is an error that names it
    strict_json.py and how it is read              documented.py  and how /openapi.json tells of answers
    sampling.py    a body's parameters -> SamplingParams
    tools.py       what a model may call          thinking.py     how much it thinks before it answers
    answered.py    an answer, whole or as it comes, by whoever was chosen
    openai_form.py OpenAI's objects for chats and completions
    chat.py        /v1/chat/completions, with chat_bodies, chat_prompt
    completions.py /v1/completions, with text_form
    responses.py   /v1/responses, with responses_bodies, _input, _items, _output; kept.py, what it goes on from
    anthropic.py   /v1/messages, with anthropic_bodies, _prompt, _message
    ollama.py      /api/chat ..., with ollama_bodies, _prompt, _lines, _models
    embeddings.py  /v1/embeddings                classify.py      /v1/classify, /v1/rerank
    render.py      /v1/chat/render               transcriptions.py  /v1/audio/transcriptions
    models.py      /v1/models, /health, /ready   tokens.py        /tokenize, /detokenize
    metrics.py     /metrics                      measured.py      what it counts
    sse.py         answers as they come: server-sent events that end with whoever reads them
    wire.py        how each protocol writes them
    errors.py      what went wrong                dialect.py      and how whoever asked reads it
    each.py        several texts in one request
    layer.py       what every request passes      trust.py        who may ask, and from which pages
    limits.py      how much, how often            logged.py       what is asked, if the owner wants it
    listen.py      uvicorn, and its one line      connection.py   how slow a client may be
    page/          the page: files for a browser, no build

Place in the flow: `malmoi serve` -> here -> `AsyncLLM`. Read next: `app.py`, then `chat.py`.
"""
