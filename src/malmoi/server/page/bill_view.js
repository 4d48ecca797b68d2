/* Under the box: how much of the context is used, and what the conversation has cost. Read first: bill.js. */

import { bill, contextUsed } from "./bill.js";
import { at, element } from "./dom.js";
import { cost, money, priceOf, sum } from "./prices.js";
import { number, say } from "./words.js";

const COLUMNS = ["billModel", "billPrompt", "billCached", "billCompletion", "billThought", "billCost"];

/** Shows the gauge, and the bill that its button opens. `model(id)` is a model of the list, undefined if it is gone. */
export class BillView {
    #model;
    #conversation;

    constructor(model) {
        this.#model = model;
        at("bill").addEventListener("beforetoggle", ({ newState }) => {
            if (newState === "open") this.#drawBill();
        });
    }

    /** Draw what `shown`, messages of `conversation`, use of a context of `contextLength` tokens; null is unknown. */
    draw(conversation, shown, contextLength) {
        this.#conversation = conversation;
        const used = contextUsed(conversation, shown);
        at("gauge").hidden = used === undefined;
        if (used === undefined) return;
        const length = contextLength === null ? "?" : number(contextLength);
        at("gauge-text").textContent = say("context", { used: number(used), length });
        at("gauge-meter").hidden = contextLength === null;
        at("gauge-meter").value = used / (contextLength ?? Infinity);
        const rows = bill(conversation);
        const tokens = rows.reduce((count, { prompt, completion }) => count + prompt + completion, 0);
        const paid = money(sum(rows.map((row) => this.#cost(row))));
        at("open-bill").textContent = [say("billTokens", { count: number(tokens) }), paid]
            .filter(Boolean)
            .join(" · ");
    }

    #cost(row) {
        return cost(row, priceOf(this.#model(row.model) ?? { id: row.model }));
    }

    #drawBill() {
        const rows = bill(this.#conversation);
        const lines = rows.map((row) => {
            const { model, prompt, cached, completion, thought } = row;
            const counts = [prompt, cached, completion, thought].map((count) =>
                element("td", {}, number(count)),
            );
            const paid = money(this.#cost(row)) || say("noPrice");
            return element("tr", {}, element("th", { scope: "row" }, model), counts, element("td", {}, paid));
        });
        const total = money(sum(rows.map((row) => this.#cost(row))));
        const head = COLUMNS.map((name) => element("th", { scope: "col" }, say(name)));
        at("bill").replaceChildren(
            element("h2", {}, say("billTitle")),
            element(
                "div",
                { class: "table", tabindex: 0 },
                element(
                    "table",
                    {},
                    element("thead", {}, element("tr", {}, head)),
                    element("tbody", {}, lines),
                ),
            ),
            element("p", { class: "total" }, total && say("billTotal", { total })),
            element("p", { class: "hint" }, say("billHint")),
        );
    }
}
