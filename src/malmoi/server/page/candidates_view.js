/* What else was likely at a place of an answer: the list that a token opens. One of it can be gone on from.

Read first: token_view.js.
*/

import { element } from "./dom.js";
import { hexadecimal, textOf } from "./token_bytes.js";
import { number, say } from "./words.js";

/** A table of the likeliest tokens at the place of `taken`, which is among them, and of what is left for all others.
 *  `goOn(token)` is called for one that the answer is to go on from. */
export function candidatesTable(taken, goOn) {
    const likely = taken.top_logprobs ?? [];
    const all = likely.some((one) => one.token === taken.token) ? likely : [...likely, taken];
    const rest = 1 - all.reduce((sum, one) => sum + Math.exp(one.logprob), 0);
    const rows = all.map((one) =>
        row(named(one, goOn), Math.exp(one.logprob), one.token === taken.token && "taken"),
    );
    return element("table", {}, rows, rest > 0.0005 && row(say("otherTokens"), rest, "rest"));
}

/** A token as a button, if the server can go on from it: by its id, and not from one that ends the text. */
function named(token, goOn) {
    const text = shown(token);
    if (token.id === undefined || token.bytes === null) return text;
    const label = say("goOnFrom", { token: text });
    return element(
        "button",
        { type: "button", title: label, "aria-label": label, onclick: () => goOn(token) },
        text,
    );
}

function row(name, probability, kind) {
    const bar = element("meter", { min: 0, max: 1, value: probability, "aria-hidden": true });
    return element(
        "tr",
        { class: kind },
        element("td", {}, name),
        element("td", {}, bar),
        element("td", {}, percent(probability)),
    );
}

function shown({ token, bytes }) {
    const text = bytes ? textOf(bytes) : token;
    return text === null ? hexadecimal(bytes) : text.replaceAll("\n", "↵").replaceAll(" ", "␣");
}

/** A probability as one reads it. */
export function percent(probability) {
    return `${number(100 * probability, probability < 0.01 ? 2 : 1)} %`;
}
