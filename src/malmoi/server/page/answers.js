/* Answers that are under way: chunks of the server -> the messages of the tree, of whatever chat they belong to.

   message -> Api.complete -> chunk -> grow(message, chunk) -> changed(conversation)

An answer belongs to its conversation, not to what is shown: it goes on when another chat is opened. Read next: chat.js.
*/

import { ApiError } from "./api.js";
import { messagesTo } from "./conversation.js";
import { say } from "./words.js";

const NUM_CANDIDATES = 5;

/** Asks `api` for answers. `changed(conversation, message, isOver)` is called whenever one has grown, and at its end. */
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

    /** Let `message`, an empty one, grow into an answer of its `model` to the message above it. Mutates it. */
    async answer(conversation, message) {
        const { system, parameters } = conversation.settings;
        const messages = messagesTo(conversation, message.parent).map(({ role, content }) => ({
            role,
            content,
        }));
        if (system.trim()) messages.unshift({ role: "system", content: system });
        const logprobs = message.tokens && { logprobs: true, top_logprobs: NUM_CANDIDATES };
        const controller = new AbortController();
        this.#running.set(message, { conversation, controller });
        try {
            const body = { model: message.model, messages, ...parameters, ...logprobs };
            for await (const chunk of this.#api.complete(body, controller.signal)) {
                grow(message, chunk);
                this.#changed(conversation, message, false);
            }
        } catch (problem) {
            if (controller.signal.aborted) message.finish = "stopped";
            else message.failure = reason(problem);
        } finally {
            this.#running.delete(message);
            this.#changed(conversation, message, true);
        }
    }
}

/** Add what a chunk brings to the message. Mutates it. */
function grow(message, { choices, usage, timings }) {
    const [choice] = choices ?? [];
    message.content += choice?.delta?.content ?? "";
    const reasoning = choice?.delta?.reasoning_content;
    if (reasoning) message.reasoning = (message.reasoning ?? "") + reasoning;
    if (choice?.logprobs?.content) message.tokens?.push(...choice.logprobs.content);
    if (choice?.finish_reason) message.finish = choice.finish_reason;
    if (usage) message.usage = usage;
    if (timings) message.timings = timings;
}

/** Why there is no answer, in words for the reader: the server's own, if it said any. */
export function reason(problem) {
    if (!(problem instanceof ApiError)) return String(problem);
    if (problem.status === 401) return say("keyNeeded");
    return problem.message || say("unreachable");
}
