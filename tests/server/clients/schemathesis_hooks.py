"""What Schemathesis is told beside the schema, so that requests come further than to the name of a model.

It runs in Schemathesis' environment, which loads this file.
"""

from typing import Any

import schemathesis

MODELS = {
    "/v1/embeddings": "encoder",
    "/api/embed": "encoder",
    "/v1/classify": "labels",
    "/v1/rerank": "rank",
}
TALK = [{"role": "system", "content": "짧게"}, {"role": "user", "content": "안녕?"}]


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """The right model, and every other time a conversation that a model can answer."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("model", ""), str):
        body["model"] = MODELS.get(context.operation.path, "default")
    if isinstance(messages := body.get("messages"), list) and len(messages) % 2 == 0:
        body["messages"] = TALK[context.operation.path.startswith("/v1/messages") :]
    return body
