/* How a conversation is shown: a view for each message, a row where branches are side by side, and the end in sight.

Read first: conversation.js (the tree) and message_view.js (how one looks); read next: chat.js, what is done with them.
*/

import { shownMessages, siblings } from "./conversation.js";
import { at, element } from "./dom.js";
import { MessageView } from "./message_view.js";

const NEAR_END = 80; // pixels from the end, within which the page follows an answer that grows

/** The messages of one conversation after the other. `acts` are those of message_view.js; `answers` knows which messages
 *  still grow. */
export class ChatView {
    #answers;
    #acts;
    #conversation;
    #views = new Map(); // message id -> its view, of the conversation that is shown
    #rows = new Map(); // id of a question -> the row in which its answers are side by side

    constructor(answers, acts) {
        this.#answers = answers;
        this.#acts = acts;
    }

    /** Show this conversation from now on. */
    open(conversation) {
        this.#conversation = conversation;
        this.#views.clear();
        this.#rows.clear();
        this.draw();
        this.goToEnd();
    }

    /** Draw what is shown. Elements that have not changed stay. */
    draw() {
        const shown = shownMessages(this.#conversation);
        fill(
            at("messages"),
            shown.map((message) => this.#drawMessage(message, message === shown.at(-1))),
        );
        at("greeting").hidden = shown.length > 0;
    }

    /** Lay the answers to a message side by side, or show one of them. */
    layOut(parent, isBeside) {
        if (isBeside) this.#rows.set(parent, element("div", { class: "beside" }));
        else this.#rows.delete(parent);
    }

    /** Do what may make the page longer, and stay at its end if that is where the reader is. */
    followEnd(act) {
        const scroller = at("scroller");
        const isNearEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END;
        act();
        if (isNearEnd) this.goToEnd();
    }

    goToEnd() {
        at("scroller").scrollTop = at("scroller").scrollHeight;
    }

    #drawMessage(message, isLast) {
        const branches = siblings(this.#conversation, message);
        const isAnswer = message.role === "assistant";
        const row = isAnswer && branches.length > 1 ? this.#rows.get(message.parent) : undefined;
        const drawn = (row ? branches : [message]).map((one) => {
            const view = this.#view(one);
            const place = { index: branches.indexOf(one) + 1, count: branches.length };
            const beside = row ? (one === message ? "chosen" : "other") : null;
            view.update({
                place,
                isOpen: this.#answers.isOpen(one),
                beside,
                isLast: isLast && one === message,
            });
            return view.element;
        });
        if (row) fill(row, drawn);
        return row ?? drawn[0];
    }

    #view(message) {
        if (!this.#views.has(message.id))
            this.#views.set(message.id, new MessageView(message, this.#acts, at("candidates")));
        return this.#views.get(message.id);
    }
}

/** Let `container` hold these elements; nothing is touched if it does. */
function fill(container, elements) {
    const { childNodes } = container;
    const isSame =
        elements.length === childNodes.length && elements.every((one, index) => one === childNodes[index]);
    if (!isSame) container.replaceChildren(...elements);
}
