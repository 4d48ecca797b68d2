/* Calls of tools: what the model wants to have done, as cards, and a box in each for what came of it.

   message.calls = [{id, name, arguments}]     arguments: JSON, as text, since it may still be arriving

The page runs nothing itself: the reader does, and types the result. Read first: message_view.js.
*/

import { element } from "./dom.js";
import { say } from "./words.js";

/** The cards of one message. `send(results)` is called with the text of each result, in the order of the calls. */
export class CallsView {
    #message;
    #send;
    #drawn = "";

    constructor(message, send) {
        this.#message = message;
        this.#send = send;
        this.element = element("form", {
            class: "calls",
            hidden: true,
            onsubmit: (event) => this.#submit(event),
        });
    }

    /** `isWaiting`: the calls are complete, and nothing was answered to them. */
    update(isWaiting) {
        const calls = this.#message.calls ?? [];
        this.element.hidden = calls.length === 0;
        const drawn = JSON.stringify([calls, isWaiting]);
        if (drawn === this.#drawn) return;
        this.#drawn = drawn;
        const sending = element("button", { type: "submit", class: "strong" }, say("sendResults"));
        this.element.replaceChildren(
            ...calls.map((call) => card(call, isWaiting)),
            ...(isWaiting && calls.length > 0 ? [sending] : []),
        );
    }

    #submit(event) {
        event.preventDefault();
        this.#send([...this.element.querySelectorAll("textarea")].map(({ value }) => value));
    }
}

function card({ name, arguments: given }, isWaiting) {
    const result = element("textarea", {
        rows: 2,
        required: true,
        spellcheck: "false",
        "aria-label": say("resultOf", { name }),
        placeholder: say("resultOf", { name }),
    });
    return element(
        "section",
        { class: "call", "aria-label": say("callOf", { name }) },
        element("h3", {}, say("callOf", { name })),
        element("pre", { tabindex: 0 }, element("code", {}, indented(given))),
        isWaiting && result,
    );
}

/** JSON with a line for each value; as it is while it is not whole. */
export function indented(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return text;
    }
}
