/* A text box that sends on Enter: the eyes and hands of composer.js. The question's box and an edit's are both one. */

import { Composer } from "./composer.js";

const BLANK_LINES = /^(?:[^\S\n]*\n)+/;

const EVENTS = [
    "keydown",
    "compositionstart",
    "compositionupdate",
    "compositionend",
    "beforeinput",
    "keyup",
    "blur",
];

/** Gives `textarea` its manners: Enter calls `send(text)` once and empties it, Shift+Enter is a new line, and it is as
 *  high as its text. `send` returns false to keep the text, when there is nothing to send it to. A box of blanks is sent
 *  only where `canBeEmpty()` says so. */
export class ComposeBox {
    #textarea;
    #send;
    #canBeEmpty;

    constructor(textarea, send, canBeEmpty = () => false) {
        this.#textarea = textarea;
        this.#send = send;
        this.#canBeEmpty = canBeEmpty;
        const composer = new Composer();
        for (const name of EVENTS) {
            textarea.addEventListener(name, (event) => {
                const { does, prevent } = composer[name](event);
                if (prevent) event.preventDefault();
                // The browser is still writing the last syllable while its events run: act when they are over.
                if (does) setTimeout(() => (does === "send" ? this.send() : this.#newline()));
            });
        }
        textarea.addEventListener("input", () => this.fit());
    }

    get text() {
        return this.#textarea.value;
    }

    set text(value) {
        this.#textarea.value = value;
        this.fit();
    }

    /** Send what is there, without blank lines before it and blanks behind: the first line may be indented. */
    send() {
        const text = this.text.replace(BLANK_LINES, "").trimEnd();
        if ((text || this.#canBeEmpty()) && this.#send(text) !== false) this.text = "";
    }

    /** Make the box as high as its text; CSS says how high at most. */
    fit() {
        this.#textarea.style.height = "auto";
        this.#textarea.style.height = `${this.#textarea.scrollHeight}px`;
        this.#textarea.dispatchEvent(new CustomEvent("fit", { bubbles: true }));
    }

    #newline() {
        const { selectionStart, selectionEnd } = this.#textarea;
        this.#textarea.setRangeText("\n", selectionStart, selectionEnd, "end");
        this.fit();
    }
}
