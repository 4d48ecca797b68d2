/* What the page asks the server, in OpenAI's words. Nothing here knows the page. Read first: events.js. */

import { EventReader } from "./events.js";
import { modelOf } from "./models.js";

/** What the server refused, with its own words; `status` is 0 where no answer came at all. */
export class ApiError extends Error {
    constructor(message, status = 0) {
        super(message);
        this.status = status;
    }
}

/** The server at `base`, asked with `key()`, an API key or "". */
export class Api {
    #key;

    constructor(key) {
        this.#key = key;
    }

    /** The models that can be asked, as models.js has them. */
    async models() {
        const { data } = await (await this.#fetch("/v1/models")).json();
        return data.map(modelOf);
    }

    /** How `model` cuts `text`: {tokens, pieces: [{id, bytes, text}], count}. */
    async tokenize(model, text, signal) {
        return (await this.#fetch("/tokenize", { model, text }, signal)).json();
    }

    /** The chunks of an answer as they come. Aborting `signal` ends the request on the server too.
     *  Throws ApiError: the server refused, failed in mid-answer, or hung up before `[DONE]`. */
    async *complete(body, signal) {
        const asked = { ...body, stream: true, stream_options: { include_usage: true } };
        const response = await this.#fetch("/v1/chat/completions", asked, signal);
        const reader = response.body.getReader();
        const events = new EventReader();
        let isWhole = false;
        try {
            for (;;) {
                const { done, value } = await reader.read().catch((problem) => {
                    throw signal.aborted ? problem : new ApiError("");
                });
                if (done) throw new ApiError("");
                for (const data of events.push(value)) {
                    isWhole = data === "[DONE]";
                    if (isWhole) return;
                    const chunk = JSON.parse(data);
                    if (chunk.error) throw new ApiError(chunk.error.message, 500);
                    yield chunk;
                }
            }
        } finally {
            // Whatever went wrong, here or where the chunks are read: the server need not go on.
            if (!isWhole) reader.cancel().catch(() => {});
        }
    }

    async #fetch(path, body, signal) {
        const key = this.#key();
        const headers = {
            ...(body && { "Content-Type": "application/json" }),
            ...(key && { Authorization: `Bearer ${key}` }),
        };
        const options = { headers, signal, ...(body && { method: "POST", body: JSON.stringify(body) }) };
        const response = await fetch(path, options).catch((problem) => {
            throw signal?.aborted ? problem : new ApiError("");
        });
        if (response.ok) return response;
        const answer = await response.json().catch(() => ({}));
        throw new ApiError(
            answer.error?.message ?? `${response.status} ${response.statusText}`,
            response.status,
        );
    }
}
