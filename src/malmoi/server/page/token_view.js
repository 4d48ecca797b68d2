/* An answer as its tokens, tinted by how sure the model was. Read first: token_bytes.js; read next: candidates_view.js,
   what a token opens. */

import { candidatesTable, percent } from "./candidates_view.js";
import { element } from "./dom.js";
import { characterGroups, spanOf } from "./token_bytes.js";
import { say } from "./words.js";

const LEVELS = [0.9, 0.7, 0.45, 0.2, 0.05]; // a token less likely than the n-th has the n-th tint
const GAP = 6; // pixels between a token and its list of candidates

/** Tokens in `container`, each a button that shows in `popover` what else was likely. Arrow keys walk along.
 *  `goOn(place, token)` is called for a token that the answer is to go on from at a place. */
export class TokenView {
    #container;
    #popover;
    #goOn;
    #numTokens = 0;

    constructor(container, popover, goOn) {
        this.#container = container;
        this.#popover = popover;
        this.#goOn = goOn;
        container.addEventListener("keydown", (event) => this.#walk(event));
    }

    /** Show the tokens of `message`, those of the last call and more; `isOpen`: it still grows, and only what is new is
     *  drawn. Those of the thought are left out; what is behind the text, such as the token that ended it, is set apart. */
    update(message, isOpen) {
        const { tokens, calls } = message;
        if (isOpen && tokens.length === this.#numTokens) return;
        this.#numTokens = tokens.length;
        const { start, end } = spanOf(message);
        if (isOpen)
            this.#container.lastChild?.remove(); // it may have been half a character
        else this.#container.replaceChildren();
        const num = this.#container.childNodes.length;
        // What makes up a call is in no text either: it has a card of its own.
        const isShown = (group) => group.end > start && !(calls && group.at >= end);
        const groups = characterGroups(tokens).filter(isShown);
        const buttons = groups.slice(num).map((group, index) => {
            const button = this.#button(group, num + index === 0);
            button.classList.toggle("unsaid", !isOpen && group.at >= end);
            return button;
        });
        this.#container.append(...buttons);
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

    #show(button, { tokens, place }) {
        const tables = tokens.map((token, index) =>
            candidatesTable(token, (candidate) => {
                this.#popover.hidePopover();
                this.#goOn(place + index, candidate);
            }),
        );
        const canGoOn = tables.some((table) => table.querySelector("button"));
        this.#popover.replaceChildren(
            element("h2", {}, say("alternatives")),
            ...tables,
            ...(canGoOn ? [element("p", { class: "hint" }, say("goOnHint"))] : []),
        );
        this.#popover.showPopover();
        const { left, top, bottom } = button.getBoundingClientRect();
        const { width, height } = this.#popover.getBoundingClientRect();
        const below = bottom + GAP;
        this.#popover.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`;
        this.#popover.style.top = `${below + height < innerHeight ? below : Math.max(GAP, top - GAP - height)}px`;
        this.#popover.querySelector("button")?.focus();
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
