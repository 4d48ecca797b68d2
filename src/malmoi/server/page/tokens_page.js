/* The tokens page: a text, cut by the tokenizer of every model that is ticked, side by side, with what it costs. */

import { element } from "./dom.js";
import { reason } from "./answers.js";
import { canCut } from "./models.js";
import { cost, money, priceOf } from "./prices.js";
import { hexadecimal, textOf } from "./token_bytes.js";
import { number, say } from "./words.js";

const WAIT_MS = 150; // after the last key, before the server is asked
const NUM_TINTS = 5;
const SYLLABLE = /[가-힣]/g;
const FORMS = ["NFC", "NFD"];

/** Fills `page`. `models()` gives the models there are: those whose tokenizer is here are shown. */
export class TokensPage {
    #api;
    #models;
    #text = element(
        "textarea",
        { rows: 4, "aria-label": say("tokensText"), spellcheck: "false", oninput: () => this.#cutSoon() },
        say("tokensSample"),
    );
    #ticks = element("fieldset", {});
    #results = element("div", { class: "results", "aria-live": "polite" });
    #timer;
    #asking = new AbortController();

    constructor(page, { api, models }) {
        this.#api = api;
        this.#models = models;
        const forms = element(
            "div",
            { class: "forms", role: "group", "aria-label": say("normalise") },
            FORMS.map((form) =>
                element(
                    "button",
                    {
                        type: "button",
                        class: "plain",
                        onclick: () => {
                            this.#text.value = this.#text.value.normalize(form);
                            this.#cut();
                        },
                    },
                    form,
                ),
            ),
        );
        page.append(
            element(
                "div",
                { class: "sheet" },
                element("h1", {}, say("tokensTitle")),
                element("p", { class: "hint" }, say("tokensHint")),
                this.#text,
                element("div", { class: "choices" }, this.#ticks, forms),
                this.#results,
            ),
        );
    }

    /** Show the page with the models that there are now. */
    show() {
        const unticked = new Set(
            [...this.#ticks.querySelectorAll("input:not(:checked)")].map((tick) => tick.value),
        );
        this.#ticks.replaceChildren(
            element("legend", { class: "unseen" }, say("tokensModels")),
            ...this.#cutting().map(({ id }) =>
                element(
                    "label",
                    {},
                    element("input", {
                        type: "checkbox",
                        value: id,
                        checked: !unticked.has(id),
                        onchange: () => this.#cut(),
                    }),
                    id,
                ),
            ),
        );
        this.#cut();
    }

    #cutting() {
        return this.#models().filter(canCut);
    }

    #cutSoon() {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#cut(), WAIT_MS);
    }

    async #cut() {
        this.#asking.abort();
        this.#asking = new AbortController();
        const { signal } = this.#asking;
        const text = this.#text.value;
        const ticked = [...this.#ticks.querySelectorAll("input:checked")].map((tick) => tick.value);
        const models = this.#cutting().filter(({ id }) => ticked.includes(id));
        const results = await Promise.all(models.map((model) => this.#result(model, text, signal)));
        if (!signal.aborted) this.#results.replaceChildren(...results);
    }

    async #result(model, text, signal) {
        const title = element("h2", {}, model.id);
        try {
            const { pieces, count } = await this.#api.tokenize(model.id, text, signal);
            return element(
                "section",
                {},
                title,
                counts(text, count, priceOf(model)),
                element("p", { class: "pieces" }, pieces.map(piece)),
            );
        } catch (problem) {
            return element("section", {}, title, element("p", { class: "problem" }, reason(problem)));
        }
    }
}

function counts(text, count, price) {
    const syllables = text.normalize("NFC").match(SYLLABLE)?.length ?? 0;
    const rows = [
        [number(count), say("countTokens")],
        [number([...new Intl.Segmenter().segment(text)].length), say("countCharacters")],
        [number(new TextEncoder().encode(text).length), say("countBytes")],
        syllables > 0 && [number(count / syllables, 3), say("perSyllable")],
        price !== null && [money(cost({ prompt: count, completion: 0 }, price)), say("asPrompt")],
        price !== null && [money(cost({ prompt: 0, completion: count }, price)), say("asAnswer")],
    ];
    return element(
        "dl",
        {},
        rows
            .filter(Boolean)
            .map(([value, name]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
    );
}

function piece({ id, bytes }, index) {
    const text = textOf(bytes);
    const kind = `piece tint${index % NUM_TINTS}${text === null ? " bytes" : ""}`;
    const shown = text === null ? hexadecimal(bytes) : text.replaceAll("\n", "↵\n");
    return element("span", { class: kind, title: `${id} · ${hexadecimal(bytes)}` }, shown);
}
