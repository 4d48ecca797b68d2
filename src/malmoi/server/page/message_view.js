/* A message on the page: its thought, its text, its files, its calls, and beneath it what can be done with it.

   message -> thought_view.js, markdown_view.js or token_view.js, media_view.js, calls_view.js, message_foot.js

Read next: chat.js, which does what the buttons say.
*/

import { CallsView, indented } from "./calls_view.js";
import { element } from "./dom.js";
import { editForm } from "./edit_form.js";
import { MarkdownView } from "./markdown_view.js";
import { mediumElement } from "./media_view.js";
import { footParts, isCut, statusParts } from "./message_foot.js";
import { ThoughtView } from "./thought_view.js";
import { TokenView } from "./token_view.js";
import { say } from "./words.js";

const NAMES = { user: "you", assistant: "assistant", tool: "toolResult" };

/** The element of one message. `acts` are what its buttons call: edit(message, text), regenerate(message),
 *  step(message, by), take(message), layOut(message, isBeside), goOn(message, place, token) and
 *  giveResults(message, results). `update` draws it anew: cheap enough for every piece of an answer. */
export class MessageView {
    #message;
    #acts;
    #markdown;
    #tokens;
    #thought;
    #calls;
    #body = element("div", { class: "body prose" });
    #status = element("p", { class: "status" });
    #foot = element("footer");
    #drawn = "";

    constructor(message, acts, popover) {
        const { role, model, media = [] } = message;
        this.#message = message;
        this.#acts = acts;
        this.#thought = new ThoughtView(message);
        this.#calls = new CallsView(message, (results) => acts.giveResults(message, results));
        this.#markdown = new MarkdownView(this.#body);
        this.#tokens = new TokenView(this.#body, popover, (place, token) => acts.goOn(message, place, token));
        const name = say(NAMES[role]);
        this.element = element(
            "article",
            { class: `message ${role}` },
            element("h2", { class: role !== "tool" && "unseen" }, model ? `${name}: ${model}` : name),
            role === "assistant" && this.#thought.element,
            media.length > 0 && element("div", { class: "media" }, media.map(mediumElement)),
            this.#body,
            role === "assistant" && this.#calls.element,
            this.#status,
            this.#foot,
        );
    }

    /** `place` = {index, count} among the branches of this fork; `isOpen`: its text is still arriving; `beside`: null
     *  if it is shown alone, "chosen" or "other" if side by side with the other branches; `isLast`: nothing follows. */
    update({ place, isOpen, beside, isLast }) {
        const { failure, finish } = this.#message;
        const drawn = JSON.stringify([place, isOpen, beside, isLast, failure, finish]);
        if (drawn === this.#drawn && !isOpen) return;
        this.#drawn = drawn;
        this.#drawText(isOpen);
        this.#thought.update(isOpen);
        this.#calls.update(isLast && !isOpen && !isCut(this.#message));
        this.element.classList.toggle("open", isOpen);
        this.element.classList.toggle("other", beside === "other");
        this.element.ariaBusy = String(isOpen);
        this.#status.replaceChildren(...(isOpen ? [] : statusParts(this.#message, this.#acts)));
        this.#status.hidden = this.#status.childNodes.length === 0;
        const acts = { ...this.#acts, edit: () => this.#edit() };
        this.#foot.replaceChildren(...(isOpen ? [] : footParts(this.#message, { place, beside }, acts)));
    }

    #drawText(isOpen) {
        const { role, content, tokens, media, calls } = this.#message;
        this.#body.hidden = content === "" && Boolean(media?.length || calls);
        // A server elsewhere may say nothing of its tokens, though it was asked to.
        const isTokens = Boolean(tokens) && (tokens.length > 0 || content === "");
        this.#body.classList.toggle("tokens", isTokens);
        if (role === "user") this.#body.textContent = content;
        else if (role === "tool") this.#body.textContent = indented(content);
        else if (isTokens) this.#tokens.update(this.#message, isOpen);
        else this.#markdown.update(content, isOpen);
    }

    #edit() {
        const { content, media } = this.#message;
        const { form, begin } = editForm(content, {
            send: (text) => this.#acts.edit(this.#message, text),
            close: (isSent) => {
                form.replaceWith(this.#body);
                this.#foot.hidden = false;
                if (!isSent) this.#foot.querySelector("button:last-of-type").focus();
            },
            canBeEmpty: Boolean(media?.length),
        });
        this.#body.replaceWith(form);
        this.#foot.hidden = true;
        begin();
    }
}
