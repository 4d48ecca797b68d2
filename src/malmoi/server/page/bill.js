/* The bill of a conversation: the tokens of all its answers, every branch, by the model that wrote them, and their cost.

   conversation -> bill -> [{model, prompt, cached, completion, thought}] -> prices.js -> ₩

No DOM here. Read next: bill_view.js.
*/

import { siblings } from "./conversation.js";

/** What each model took: {model, prompt, cached, completion, thought} in tokens; what was cached is part of the prompt,
 *  and what was thought part of the completion. */
export function bill({ messages }) {
    const rows = new Map();
    for (const { usage, model, speaker } of Object.values(messages)) {
        if (!usage) continue;
        const name = speaker ?? model;
        const row = rows.get(name) ?? { model: name, prompt: 0, cached: 0, completion: 0, thought: 0 };
        row.prompt += usage.prompt_tokens;
        row.cached += usage.prompt_tokens_details?.cached_tokens ?? 0;
        row.completion += usage.completion_tokens;
        row.thought += usage.completion_tokens_details?.reasoning_tokens ?? 0;
        rows.set(name, row);
    }
    return [...rows.values()];
}

/** How many tokens of the context `shown`, messages of the conversation, take; undefined if no answer says it. Several
 *  answers of one request are counted together, on the first of them: to each goes an equal part of what was written. */
export function contextUsed(conversation, shown) {
    for (const message of shown.toReversed()) {
        const n = message.parameters?.n ?? 1;
        const group = n > 1 ? siblings(conversation, message) : [message];
        const { usage } = group.slice(0, group.indexOf(message) + 1).findLast((one) => one.usage) ?? {};
        if (usage && n === 1) return usage.total_tokens;
        if (usage) return usage.prompt_tokens + Math.round(usage.completion_tokens / n);
    }
    return undefined;
}
