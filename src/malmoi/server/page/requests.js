/* What the server is asked for an answer: the conversation above it, in OpenAI's words. No DOM here. Read first:
   conversation.js; read next: answers.js, which asks. */

import { messagesTo } from "./conversation.js";

const NUM_CANDIDATES = 5;

/** The body of the request that `message`, an answer with nothing in it or with its beginning, grows from. */
export function requestFor(conversation, message) {
    const { system } = conversation.settings;
    const above = messagesTo(conversation, message.parent);
    const messages = above.map((one, index) => spoken(one, above[index + 1]));
    if (system.trim()) messages.unshift({ role: "system", content: system });
    const { ids, text } = message.began ?? {};
    // Ids go on within a syllable, text only behind one; and it goes on behind its thought.
    const thought = message.reasoning && { reasoning_content: message.reasoning };
    if (text && !ids) messages.push({ role: "assistant", content: text, ...thought, prefix: true });
    return {
        model: message.model,
        messages,
        ...message.parameters,
        ...(message.tokens && { logprobs: true, top_logprobs: NUM_CANDIDATES }),
        ...(ids && { beginning: ids }),
    };
}

/** A message as the API writes it. A thought stays here: it is of no use to the next turn. */
function spoken({ role, content, media, calls, call }, next) {
    if (role === "tool") return { role, tool_call_id: call, content };
    if (media?.length > 0) {
        const words = content ? [{ type: "text", text: content }] : [];
        return { role, content: [...media.map(part), ...words] };
    }
    // A call that nobody answered is as if it had not been made: the server would wait for its result.
    if (!calls || next?.role !== "tool") return { role, content };
    const made = calls.map(({ id, name, arguments: given }) => ({
        id,
        type: "function",
        function: { name, arguments: given },
    }));
    return { role, content: content || null, tool_calls: made };
}

function part({ kind, type, url }) {
    if (kind === "image") return { type: "image_url", image_url: { url } };
    const data = url.slice(url.indexOf(",") + 1);
    return { type: "input_audio", input_audio: { data, format: type.replace(/^audio\/(x-)?/, "") } };
}
