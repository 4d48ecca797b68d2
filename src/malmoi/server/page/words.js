/* What the page says, in Korean and in English: the browser's language decides, unless the reader chose one. */

import { PHRASES } from "./phrases.js";
import { keep, kept } from "./preferences.js";

const KEY = "malmoi.language";
const chosen = kept(KEY);

/** "ko" or "en": of this page, until it is loaded again. */
export const language = chosen ?? (navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en");

/** What the reader chose, "" for the browser's language. */
export const chosenLanguage = chosen ?? "";

/** Choose a language, "" for the browser's; the page is loaded again in it. */
export function chooseLanguage(value) {
    keep(KEY, value || null);
    location.reload();
}

/** The words for `key`, with `{name}` replaced by values: `say("branch", {index: 1, count: 2})`. */
export function say(key, values = {}) {
    return sayIn(PHRASES[key]).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Of words in both languages, [Korean, English], those of this page. */
export function sayIn([korean, english]) {
    return language === "ko" ? korean : english;
}

/** A number as it is written here; `digits` behind the point at most. */
export function number(value, digits = 0) {
    return value.toLocaleString(language, { maximumFractionDigits: digits });
}

/** A size in bytes, as one reads it: "1.5 MiB". */
export function byteSize(size) {
    return size < 2 ** 20 ? `${number(size / 2 ** 10, 1)} KiB` : `${number(size / 2 ** 20, 1)} MiB`;
}

/** Fill in the words of index.html: data-say is an element's text, data-label its name, data-hint its placeholder. */
export function fillWords(root) {
    document.documentElement.lang = language;
    for (const node of root.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
    for (const node of root.querySelectorAll("[data-label]")) {
        node.setAttribute("aria-label", say(node.dataset.label));
        if (node.matches("button, a")) node.title = say(node.dataset.label);
    }
    for (const node of root.querySelectorAll("[data-hint]")) node.placeholder = say(node.dataset.hint);
}
