/* Tokens made visible: in an answer, tinted by how sure the model was; on the tokens page, as they are cut.

A token may be a part of a character (한 is three bytes). An answer shows such tokens together, as the character that
they make; the tokens page shows each, as bytes. Read next: tokens_page.js.
*/

import { element } from "./dom.js";
import { number, say } from "./words.js";

const LEVELS = [0.9, 0.7, 0.45, 0.2, 0.05]; // a token less likely than the n-th has the n-th tint
const GAP = 6; // pixels between a token and its list of candidates
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of bytes, null if they are no whole characters. */
export function textOf(bytes) {
    try {
        return strict.decode(Uint8Array.from(bytes));
    } catch {
        return null;
    }
}

/** Bytes as one writes them: "ed 95". */
export function hexadecimal(bytes) {
    return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** Tokens of an answer in OpenAI's form, in groups that are whole characters: [{text, tokens}]. */
export function characterGroups(tokens) {
    const groups = [];
    let held = [];
    for (const token of tokens) {
        held.push(token);
        const bytes = held.flatMap((one) => one.bytes ?? [...new TextEncoder().encode(one.token)]);
        const text = textOf(bytes);
        if (text === null && held.length < 4) continue; // a character has four bytes at most
        groups.push({ text: text ?? held.map((one) => one.token).join(""), tokens: held });
        held = [];
    }
    if (held.length > 0) groups.push({ text: held.map((one) => one.token).join(""), tokens: held });
    return groups;
}

/** An answer as its tokens: tinted, and each a button that shows what else was likely. Arrow keys walk along. */
export class TokenView {
    #container;
    #popover;
    #numTokens = 0;

    constructor(container, popover) {
        this.#container = container;
        this.#popover = popover;
        container.addEventListener("keydown", (event) => this.#walk(event));
    }

    /** Show `tokens`, those of the last call and more; `isOpen`: the answer still grows, and only what is new is drawn.
     *  What is not of `content`, such as the token that ended the answer, is set apart. */
    update(tokens, content, isOpen) {
        if (isOpen && tokens.length === this.#numTokens) return;
        this.#numTokens = tokens.length;
        if (isOpen)
            this.#container.lastChild?.remove(); // it may have been half a character
        else this.#container.replaceChildren();
        const num = this.#container.childNodes.length;
        let length = 0;
        const buttons = characterGroups(tokens).map((group, index) => {
            length += group.text.length;
            if (index < num) return null;
            const button = this.#button(group, index === 0);
            button.classList.toggle("unsaid", !isOpen && length > content.length);
            return button;
        });
        this.#container.append(...buttons.slice(num));
    }

    #button(group, isFirst) {
        const probability = Math.exp(group.tokens.reduce((sum, token) => sum + token.logprob, 0));
        const level = LEVELS.filter((bound) => probability < bound).length;
        return element(
            "span",
            {
                class: `token level${level}`,
                role: "button",
                tabindex: isFirst ? 0 : -1,
                title: percent(probability),
                onclick: (event) => this.#show(event.currentTarget, group),
            },
            group.text,
        );
    }

    #show(place, { tokens }) {
        this.#popover.replaceChildren(element("h2", {}, say("alternatives")), ...tokens.map(candidates));
        this.#popover.showPopover();
        const { left, top, bottom } = place.getBoundingClientRect();
        const { width, height } = this.#popover.getBoundingClientRect();
        const below = bottom + GAP;
        this.#popover.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`;
        this.#popover.style.top = `${below + height < innerHeight ? below : Math.max(GAP, top - GAP - height)}px`;
    }

    #walk(event) {
        const { target, key } = event;
        if (key === "Enter" || key === " ") target.click();
        const next =
            key === "ArrowRight" ? target.nextSibling : key === "ArrowLeft" ? target.previousSibling : null;
        if (next) {
            target.tabIndex = -1;
            next.tabIndex = 0;
            next.focus();
        }
        if (next || key === "Enter" || key === " ") event.preventDefault();
    }
}

/** The likeliest tokens at one place, the one that was taken among them, and what is left for all others. */
function candidates(taken) {
    const likely = taken.top_logprobs ?? [];
    const all = likely.some((one) => one.token === taken.token) ? likely : [...likely, taken];
    const rest = 1 - all.reduce((sum, one) => sum + Math.exp(one.logprob), 0);
    const rows = all.map((one) =>
        row(shown(one), Math.exp(one.logprob), one.token === taken.token ? "taken" : undefined),
    );
    return element("table", {}, rows, rest > 0.0005 && row(say("otherTokens"), rest, "rest"));
}

function row(text, probability, kind) {
    const bar = element("meter", { min: 0, max: 1, value: probability, "aria-hidden": true });
    return element(
        "tr",
        { class: kind },
        element("td", {}, text),
        element("td", {}, bar),
        element("td", {}, percent(probability)),
    );
}

function shown({ token, bytes }) {
    const text = bytes ? textOf(bytes) : token;
    return text === null ? hexadecimal(bytes) : text.replaceAll("\n", "↵").replaceAll(" ", "␣");
}

function percent(probability) {
    return `${number(100 * probability, probability < 0.01 ? 2 : 1)} %`;
}
