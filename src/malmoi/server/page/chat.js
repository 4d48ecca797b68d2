/* The chat page: a conversation is shown, asked, answered, edited, branched, and its branches laid side by side.

   question -> addMessage -> Answers -> the message grows -> MessageView, once a frame

Read first: conversation.js (the tree), answers.js (how a message grows) and message_view.js (how it looks).
*/

import { Answers } from "./answers.js";
import { ComposeBox } from "./compose_box.js";
import { addMessage, bill, choose, removeMessage, shownMessages, siblings } from "./conversation.js";
import { at, element } from "./dom.js";
import { MessageView } from "./message_view.js";
import { number, say } from "./words.js";

const NEAR_END = 80; // pixels from the end, within which the page follows an answer that grows
const SAVE_MS = 1000;

/** Holds the conversation that is shown. `asked()` gives {models, contextLength, seesTokens} for the next answer, of which
 *  every model gives one; `saved(conversation)` is called when one is to be kept, `answered()` when an answer is over. */
export class ChatPage {
    #asked;
    #saved;
    #answers;
    #conversation;
    #views = new Map(); // message id -> its view, of the conversation that is shown
    #rows = new Map(); // id of a question -> the row in which its answers are side by side
    #isDrawing = false;
    #savedAt = 0;
    #box;

    constructor({ api, asked, saved, answered }) {
        this.#asked = asked;
        this.#saved = saved;
        this.#answers = new Answers(api, (conversation, message, isOver) => {
            this.#drawSoon();
            const isDue = performance.now() - this.#savedAt > SAVE_MS;
            if (isOver || isDue) this.#save(conversation);
            if (isOver) answered();
            if (isOver && conversation === this.#conversation)
                this.#announce(message.failure ?? message.content);
        });
        this.#box = new ComposeBox(at("question"), (text) => this.ask(text));
        at("composer").addEventListener("submit", (event) => {
            event.preventDefault();
            this.#box.send();
        });
        at("stop").addEventListener("click", () => this.stop());
        at("question").addEventListener("fit", () => this.#followEnd(() => {}));
        document.addEventListener("keydown", (event) => {
            const isHere =
                event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]");
            if (isHere) this.stop();
        });
    }

    get conversation() {
        return this.#conversation;
    }

    /** Show this conversation. */
    open(conversation) {
        this.#conversation = conversation;
        this.#views.clear();
        this.#rows.clear();
        this.draw();
        at("scroller").scrollTop = at("scroller").scrollHeight;
        if (matchMedia("(pointer: fine)").matches) at("question").focus();
    }

    /** Send a question, as the next message of what is shown. Returns false while an answer is under way. */
    ask(text) {
        const last = shownMessages(this.#conversation).at(-1);
        // A question without an answer is as if it had not been asked: the next takes its place, as a branch.
        const isUnanswered = last?.role === "assistant" && last.content === "";
        const parent = isUnanswered ? this.#conversation.messages[last.parent].parent : (last?.id ?? "");
        return this.#askUnder(parent, text);
    }

    /** End what is being answered in a conversation, the one that is shown if none is named; what has come of it stays. */
    stop(conversation = this.#conversation) {
        this.#answers.stop(conversation);
    }

    /** Draw what is shown. Elements that have not changed stay. */
    draw() {
        const shown = shownMessages(this.#conversation);
        const isAnswering = this.#answers.isAnswering(this.#conversation);
        fill(
            at("messages"),
            shown.map((message) => this.#drawMessage(message)),
        );
        at("greeting").hidden = shown.length > 0;
        document.title = [this.#conversation.title, say("name")].filter(Boolean).join(" · ");
        at("send").hidden = isAnswering;
        at("stop").hidden = !isAnswering;
        this.#drawGauge(shown);
    }

    #drawMessage(message) {
        const branches = siblings(this.#conversation, message);
        const row =
            message.role === "assistant" && branches.length > 1 ? this.#rows.get(message.parent) : undefined;
        const drawn = (row ? branches : [message]).map((one) => {
            const view = this.#view(one);
            const place = { index: branches.indexOf(one) + 1, count: branches.length };
            const beside = row ? (one === message ? "chosen" : "other") : null;
            view.update({ place, isOpen: this.#answers.isOpen(one), beside });
            return view.element;
        });
        if (row) fill(row, drawn);
        return row ?? drawn[0];
    }

    #view(message) {
        if (!this.#views.has(message.id)) {
            const acts = {
                edit: (edited, text) => this.#askUnder(edited.parent, text),
                regenerate: (answer) => this.#regenerate(answer),
                step: (shown, by) => {
                    const branches = siblings(this.#conversation, shown);
                    this.#take(branches[branches.indexOf(shown) + by]);
                },
                take: (branch) => this.#take(branch),
                layOut: (answer, isBeside) => {
                    this.#layOut(answer.parent, isBeside);
                    this.draw();
                },
            };
            this.#views.set(message.id, new MessageView(message, acts, at("candidates")));
        }
        return this.#views.get(message.id);
    }

    #layOut(parent, isBeside) {
        if (isBeside) this.#rows.set(parent, element("div", { class: "beside" }));
        else this.#rows.delete(parent);
    }

    #askUnder(parent, text) {
        if (this.#answers.isAnswering(this.#conversation)) return false;
        const question = addMessage(this.#conversation, { parent, role: "user", content: text });
        this.#answer(question.id, this.#asked().models);
        at("scroller").scrollTop = at("scroller").scrollHeight;
        at("question").focus();
        return true;
    }

    #regenerate(answer) {
        if (this.#answers.isAnswering(this.#conversation)) return;
        if (answer.content === "") removeMessage(this.#conversation, answer);
        this.#answer(answer.parent, this.#asked().models.slice(0, 1));
        at("question").focus();
    }

    /** Ask every one of `models` for an answer to the message `parent`; the first one's is what the chat goes on from. */
    #answer(parent, models) {
        const { parameters } = this.#conversation.settings;
        const more = {
            parameters: structuredClone(parameters),
            ...(this.#asked().seesTokens && { tokens: [] }),
        };
        const answers = models.map((model) =>
            addMessage(this.#conversation, {
                parent,
                role: "assistant",
                content: "",
                model,
                ...structuredClone(more),
            }),
        );
        choose(this.#conversation, answers[0]);
        if (answers.length > 1) this.#layOut(parent, true);
        for (const answer of answers) this.#answers.answer(this.#conversation, answer);
        this.#announce(say("answering"));
        this.#save(this.#conversation);
        this.draw();
    }

    #take(branch) {
        choose(this.#conversation, branch);
        this.#save(this.#conversation);
        this.draw();
    }

    #save(conversation) {
        this.#savedAt = performance.now();
        this.#saved(conversation);
    }

    // A frame shows whatever has come by then, so that a fast answer costs no more than a slow one.
    #drawSoon() {
        if (this.#isDrawing) return;
        this.#isDrawing = true;
        requestAnimationFrame(() => {
            this.#isDrawing = false;
            this.#followEnd(() => this.draw());
        });
    }

    /** Do what may make the page longer, and stay at its end if that is where the reader is. */
    #followEnd(act) {
        const scroller = at("scroller");
        const isNearEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END;
        act();
        if (isNearEnd) scroller.scrollTop = scroller.scrollHeight;
    }

    #drawGauge(shown) {
        const used = shown.findLast((message) => message.usage)?.usage.total_tokens;
        const { contextLength } = this.#asked();
        at("gauge").hidden = used === undefined;
        if (used === undefined) return;
        const length = contextLength === null ? "?" : number(contextLength);
        at("gauge-text").textContent = say("context", { used: number(used), length });
        at("gauge-meter").hidden = contextLength === null;
        at("gauge-meter").value = used / (contextLength ?? Infinity);
        const { prompt, cached, completion } = bill(this.#conversation);
        const values = { prompt: number(prompt), cached: number(cached), completion: number(completion) };
        at("gauge").title = say("bill", values);
    }

    #announce(text) {
        at("announcer").textContent = text;
    }
}

/** Let `container` hold these elements; nothing is touched if it does. */
function fill(container, elements) {
    const { childNodes } = container;
    const isSame =
        elements.length === childNodes.length && elements.every((one, index) => one === childNodes[index]);
    if (!isSame) container.replaceChildren(...elements);
}
