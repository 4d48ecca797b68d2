/* Answers that are under way: chunks of the server -> the messages of the tree, of whatever chat they belong to.

   messages -> requestFor -> Api.complete -> chunk -> grow(messages, chunk) -> changed(conversation)

An answer belongs to its conversation, not to what is shown: it goes on when another chat is opened. Read next: chat.js.
*/

import { ApiError } from "./api.js";
import { requestFor } from "./requests.js";
import { say } from "./words.js";

/** Asks `api` for answers. `changed(conversation, messages, isOver)` is called whenever they have grown, and at their
 *  end. */
export class Answers {
    #api;
    #changed;
    #running = new Map(); // message -> {conversation, controller}

    constructor(api, changed) {
        this.#api = api;
        this.#changed = changed;
    }

    /** Whether this message is still growing. */
    isOpen(message) {
        return this.#running.has(message);
    }

    /** Whether any message of this conversation is. */
    isAnswering(conversation) {
        return [...this.#running.values()].some((one) => one.conversation === conversation);
    }

    /** End all answers of this conversation; what has come of them stays. */
    stop(conversation) {
        for (const one of this.#running.values())
            if (one.conversation === conversation) one.controller.abort();
    }

    /** Let `messages` grow into the answers of one request to the message above them: as many as it asks for. Mutates
     *  them. */
    async answer(conversation, messages) {
        const controller = new AbortController();
        for (const message of messages) this.#running.set(message, { conversation, controller });
        try {
            const body = requestFor(conversation, messages[0]);
            for await (const chunk of this.#api.complete(body, controller.signal)) {
                grow(messages, chunk);
                this.#changed(conversation, messages, false);
            }
        } catch (problem) {
            for (const message of messages.filter(({ finish }) => finish === undefined)) {
                if (controller.signal.aborted) message.finish = "stopped";
                else message.failure = reason(problem);
            }
        } finally {
            for (const message of messages) {
                endThought(message);
                this.#running.delete(message);
            }
            this.#changed(conversation, messages, true);
        }
    }
}

/** Add what a chunk brings to the messages. What was used is that of all, and the first one's to keep. Mutates them. */
function grow(messages, { choices, usage, timings, model, malmoi }) {
    for (const choice of choices ?? []) growOne(messages[choice.index ?? 0], choice);
    for (const message of messages) {
        if (model !== undefined && model !== message.model) message.speaker = model;
        if (malmoi?.why) message.why = malmoi.why;
    }
    if (usage) messages[0].usage = usage;
    if (timings) messages[0].timings = timings;
}

function growOne(message, { delta = {}, logprobs, finish_reason: finish }) {
    const { content, reasoning_content: thought, tool_calls: calls } = delta;
    if (thought) {
        message.thoughtSince ??= Date.now();
        message.reasoning = (message.reasoning ?? "") + thought;
    }
    if (content || calls) endThought(message);
    message.content += content ?? "";
    for (const { index, id, function: called } of calls ?? []) {
        message.calls ??= [];
        const call = (message.calls[index] ??= { id, name: called.name, arguments: "" });
        call.arguments += called.arguments ?? "";
    }
    if (logprobs?.content) message.tokens?.push(...logprobs.content);
    if (finish) message.finish = finish;
}

/** Note how long the thought took, if there was one and it is not noted yet. Mutates the message. */
function endThought(message) {
    if (message.thoughtSince !== undefined)
        message.thoughtSeconds ??= Math.round((Date.now() - message.thoughtSince) / 1000);
}

/** Why there is no answer, in words for the reader: the server's own, if it said any. */
export function reason(problem) {
    if (!(problem instanceof ApiError)) return String(problem);
    if (problem.status === 401) return say("keyNeeded");
    return problem.message || say("unreachable");
}
