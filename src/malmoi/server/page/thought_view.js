/* A thought: what a model told itself before it answered, folded above the answer. Read first: message_view.js. */

import { element } from "./dom.js";
import { MarkdownView } from "./markdown_view.js";
import { number, say } from "./words.js";

/** The folded thought of one message. It is drawn only while it is unfolded, so that a long one costs nothing. */
export class ThoughtView {
    #message;
    #isOpen = false;
    #summary = element("summary", {});
    #body = element("div", { class: "prose" });
    #text = new MarkdownView(this.#body);

    constructor(message) {
        this.#message = message;
        this.element = element("details", { class: "thoughts", hidden: true }, this.#summary, this.#body);
        this.element.addEventListener("toggle", () => this.update(this.#isOpen));
    }

    /** Show what there is of the thought now, nothing if there is none; `isOpen`: the message is still arriving. */
    update(isOpen) {
        this.#isOpen = isOpen;
        const { reasoning, thoughtSince, thoughtSeconds } = this.#message;
        this.element.hidden = !reasoning;
        if (!reasoning) return;
        const isThinking = isOpen && thoughtSeconds === undefined;
        const seconds = isThinking ? Math.floor((Date.now() - thoughtSince) / 1000) : thoughtSeconds;
        const told = isThinking ? "thinkingFor" : "thoughtFor";
        const words = seconds === undefined ? say("thoughts") : say(told, { seconds: number(seconds) });
        if (this.#summary.textContent !== words) this.#summary.textContent = words;
        this.element.classList.toggle("open", isThinking);
        if (this.element.open) this.#text.update(reasoning, isThinking);
    }
}
