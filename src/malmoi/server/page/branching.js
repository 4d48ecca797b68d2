/* What is added to the tree before the server is asked: empty answers, results of calls, and answers that begin already.

   tokens [가 | 나 | 다], 라 instead of 나 -> an answer that begins with 가라, as ids, and is gone on with

Read first: conversation.js; read next: requests.js, what of it is sent. No DOM here.
*/

import { addMessage, choose, shownMessages } from "./conversation.js";
import { parametersFor } from "./parameters.js";
import { spanOf, wholeText } from "./token_bytes.js";

/** The id of the message that the next question stands under, "" if it is the first. */
export function parentOfNext(conversation) {
    const last = shownMessages(conversation).at(-1);
    if (last === undefined) return "";
    if (last.role !== "assistant" || last.content !== "" || last.calls) return last.id;
    // A question without an answer is as if it had not been asked: the next takes its place, as a branch.
    const above = conversation.messages[last.parent];
    return above.role === "user" ? above.parent : above.id;
}

/** Add the answers of every one of `models` to the message `parent`, in groups, one for each request. The first is what
 *  the chat goes on from. Mutates the conversation. */
export function addAnswers(conversation, parent, models, seesTokens) {
    const groups = models.map((model) => {
        const parameters = parametersFor(model, conversation.settings.parameters);
        return Array.from({ length: parameters.n ?? 1 }, () =>
            addMessage(conversation, {
                parent,
                role: "assistant",
                content: "",
                model: model.id,
                parameters: structuredClone(parameters),
                ...(seesTokens && { tokens: [] }),
            }),
        );
    });
    choose(conversation, groups[0][0]);
    return groups;
}

/** Add what came of the calls of `answer`, in their order. Mutates the conversation; returns the last message. */
export function addResults(conversation, answer, results) {
    return results.reduce(
        (above, content, index) =>
            addMessage(conversation, {
                parent: above.id,
                role: "tool",
                call: answer.calls[index].id,
                content,
            }),
        answer,
    );
}

/** Add an answer that goes on from `answer`: with `token` at `place` of its tokens, or from its end. The ids are those of
 *  the server, so that it is exact within a syllable too. Mutates the conversation; returns the new one. */
export function addBranch(conversation, answer, place, token) {
    const { parent, model, speaker, parameters = {} } = answer;
    const tokens = answer.tokens?.slice(0, place);
    if (token) tokens.push({ ...token, top_logprobs: answer.tokens[place].top_logprobs });
    const ids = tokens?.every(({ id }) => id !== undefined) && tokens.map(({ id }) => id);
    const text = token ? wholeText(tokens, spanOf(answer).start) : answer.content;
    const { n: _, ...alone } = parameters;
    return addMessage(conversation, {
        parent,
        role: "assistant",
        content: text,
        model: speaker ?? model,
        parameters: structuredClone(alone),
        began: ids?.length > 0 ? { text, ids } : { text },
        ...thoughtOf(answer),
        ...(tokens && { tokens: structuredClone(tokens) }),
    });
}

/** Add an answer that begins where `answer` did, of which nothing came. Mutates the conversation; returns the new one. */
export function addAgain(conversation, answer) {
    const { parent, role, content, model, parameters, began, tokens } = answer;
    const fields = { parent, role, content, model, parameters, began, ...thoughtOf(answer) };
    return addMessage(conversation, {
        ...fields,
        ...(tokens && { tokens: tokens.slice(0, began.ids?.length ?? 0) }),
    });
}

function thoughtOf({ reasoning, thoughtSince, thoughtSeconds }) {
    return reasoning ? { reasoning, thoughtSince, thoughtSeconds } : {};
}
