"""The server: models, here and elsewhere, for programs that speak to OpenAI, Anthropic or Ollama, and for people.

    app.py         what belongs together: routes, layers, errors
    catalogue/     the models by name, and who answers a request
    openai/        the protocols, each with its endpoints, what may be asked, and how answers are written
    anthropic/
    ollama/
    trust/         who may ask, how much, how often
    bodies.py      what a request may say; what it says and nobody knows is an error that names it
    strict_json.py and how it is read              documented.py  and how /openapi.json tells of answers
    sampling.py    a body's parameters -> SamplingParams
    tools.py       what a model may call          thinking.py     how much it thinks before it answers
    answered.py    an answer, whole or as it comes, by whoever was chosen
    classify.py    /v1/classify, /v1/rerank       render.py       /v1/chat/render
    tokens.py      /tokenize, /detokenize         models.py       /v1/models, /health, /ready
    metrics.py     /metrics
    sse.py         answers as they come: server-sent events that end with whoever reads them
    disconnect.py  who goes away before ends what he has asked for
    wire.py        how each protocol writes them
    errors.py      what went wrong                dialect.py      and how whoever asked reads it
    each.py        several texts in one request
    listen.py      uvicorn, and its one line
    page/          the page: files for a browser, no build

Place in the flow: `malmoi serve` -> here -> `AsyncLLM`. Read next: `app.py`, then `openai/chat.py`.
"""
