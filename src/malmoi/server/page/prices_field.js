/* The prices that the reader types, for models whose server says none, and what a dollar is. Read first: prices.js. */

import { element } from "./dom.js";
import { labelled, numberBox, select } from "./fields.js";
import { CURRENCIES, priceOf, typePrice, typeRate, wonPerDollar } from "./prices.js";
import { say } from "./words.js";

/** The rows of the settings for `models`. `changed()` is called when one has a price, or has none any more. */
export function priceFields(models, changed) {
    const rate = numberBox(
        String(wonPerDollar() ?? ""),
        (text) => {
            typeRate(amount(text));
            changed();
        },
        { isWhole: false },
    );
    return [
        labelled(say("wonPerDollar"), say("wonPerDollarHint"), rate),
        ...models.filter(({ price }) => price === null).map((model) => priceField(model, changed)),
    ];
}

function priceField(model, changed) {
    const price = priceOf(model);
    const controls = {
        input: numberBox(String(price?.input ?? ""), keep, {
            isWhole: false,
            placeholder: say("priceInput"),
        }),
        output: numberBox(String(price?.output ?? ""), keep, {
            isWhole: false,
            placeholder: say("priceOutput"),
        }),
        currency: select(
            CURRENCIES.map((currency) => [currency, say(currency)]),
            price?.currency ?? CURRENCIES[0],
            keep,
        ),
    };
    const names = { input: say("priceInput"), output: say("priceOutput"), currency: say("currency") };
    for (const [name, control] of Object.entries(controls)) control.ariaLabel = `${model.id}: ${names[name]}`;

    function keep() {
        const [input, output] = [amount(controls.input.value), amount(controls.output.value)];
        const isWhole = input !== null && output !== null;
        typePrice(model.id, isWhole ? { currency: controls.currency.value, input, output } : null);
        changed();
    }
    return element(
        "div",
        { class: "price", role: "group", "aria-label": say("priceFor", { model: model.id }) },
        element("span", { class: "name" }, model.id),
        ...Object.values(controls),
    );
}

/** What a number box means: null where it is empty, or no amount. */
function amount(text) {
    const value = Number(text);
    return text.trim() !== "" && value >= 0 && Number.isFinite(value) ? value : null;
}
