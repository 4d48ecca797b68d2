/* A conversation as a tree of messages: every edit and every new answer is a branch, and nothing is lost.

   {id, title, created, changed, settings, messages: {id: message}, chosen: {parent id: child id}}

A message is {id, parent, role, content, ...}; the first ones have the parent "". `chosen` says which branch is shown at
each fork. Plain values only, since this is what is stored (store.js) and exported (exchange.js). No DOM here.

   of a question  media [{kind, name, type, size, url}]
   of a result    call, the id of the call that it answers (role "tool")
   of an answer   model, parameters, speaker, why       whom it was asked of, who spoke, and why that one
                  reasoning, thoughtSince, thoughtSeconds, calls, tokens, usage, timings, finish, failure
                  began {text, ids}                     what it was told to begin with; without ids, by its text
*/

const GRAPHEMES = new Intl.Segmenter("ko", { granularity: "grapheme" });
const TITLE_LENGTH = 60;

/** An empty conversation, held with `settings` (parameters.js). */
export function newConversation(settings) {
    const now = Date.now();
    return { id: newId(), title: "", created: now, changed: now, settings, messages: {}, chosen: {} };
}

/** Add a message under `parent` ("" for a first one) and show it. Mutates the conversation; returns the message. */
export function addMessage(conversation, { parent, role, content, ...more }) {
    const message = { id: newId(), parent, role, content, created: Date.now(), ...more };
    conversation.messages[message.id] = message;
    conversation.changed = message.created;
    if (role === "user") conversation.title ||= titleOf(content, more.media);
    choose(conversation, message);
    return message;
}

/** What a conversation that begins with this is called: no family of emoji loses a member. */
function titleOf(content, media = []) {
    const [line] = (content.trim() || media[0]?.name || "").split("\n");
    let [title, length] = ["", 0];
    for (const { segment } of GRAPHEMES.segment(line)) {
        if (length++ === TITLE_LENGTH) break;
        title += segment;
    }
    return title;
}

/** The messages that are shown, first to last. */
export function shownMessages(conversation) {
    const shown = [];
    for (let id = conversation.chosen[""]; id; id = conversation.chosen[id])
        shown.push(conversation.messages[id]);
    return shown;
}

/** The messages from the first one down to the one with this id; none for "". */
export function messagesTo(conversation, id) {
    const messages = [];
    for (let message = conversation.messages[id]; message; message = conversation.messages[message.parent]) {
        messages.unshift(message);
    }
    return messages;
}

/** The branches at this message's fork, oldest first, itself among them. */
export function siblings(conversation, { parent }) {
    return Object.values(conversation.messages).filter((message) => message.parent === parent);
}

/** Whether an answer has nothing but what it was told to begin with. */
export function isEmpty({ content, reasoning, calls, began }) {
    return content === (began?.text ?? "") && !calls && (began !== undefined || !reasoning);
}

/** Show this branch of its fork. Mutates the conversation. */
export function choose(conversation, { id, parent }) {
    conversation.chosen[parent] = id;
}

/** Take a message without children back, and show the branch before it. Mutates the conversation. */
export function removeMessage(conversation, { id, parent }) {
    delete conversation.messages[id];
    const left = siblings(conversation, { parent }).at(-1);
    if (left) choose(conversation, left);
    else delete conversation.chosen[parent];
}

// crypto.randomUUID is there on https and localhost only, and this page is also served at http://192.168.0.2:8000.
function newId() {
    return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) =>
        byte.toString(16).padStart(2, "0"),
    ).join("");
}
