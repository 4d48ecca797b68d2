/* What tokens cost: the price that the server says of a model, or one that the reader has typed. No DOM here.

   {currency: "KRW" | "USD", input, output}     for a million tokens each

Won and dollars stay apart, since nobody here knows the rate; a reader who types one sees everything in both.
Read next: bill.js.
*/

import { Preference } from "./preferences.js";
import { language } from "./words.js";

const MILLION = 1e6;
export const CURRENCIES = ["KRW", "USD"];

const typed = new Preference("prices", {}); // model id -> price
const rate = new Preference("rate", null); // won for a dollar

/** The price of a model ({id, price}); null if nobody has said it. */
export function priceOf({ id, price }) {
    return price ?? typed.get()[id] ?? null;
}

/** Keep what the reader typed for a model without a price; null takes it back. */
export function typePrice(id, price) {
    const { [id]: _, ...others } = typed.get();
    typed.set(price === null ? others : { ...others, [id]: price });
}

/** How many won a dollar is, as the reader typed it; null if not, and for 0, which divides nothing. */
export function wonPerDollar() {
    return rate.get() || null;
}

/** Keep it. */
export function typeRate(value) {
    rate.set(value);
}

/** What so many tokens cost, as {KRW: 1.5} or {USD: 0.001}; {} without a price. What was cached is paid as the rest. */
export function cost({ prompt, completion }, price) {
    if (price === null) return {};
    return { [price.currency]: (prompt * price.input + completion * price.output) / MILLION };
}

/** The sum of several costs. */
export function sum(costs) {
    const all = {};
    for (const one of costs)
        for (const [currency, amount] of Object.entries(one)) all[currency] = (all[currency] ?? 0) + amount;
    return all;
}

/** A cost in words: "₩1.5", "₩1.5 + $0.001", or "₩2.9 ($0.0021)" where the rate is known; "" if there is none. */
export function money(amounts) {
    const known = Object.keys(amounts);
    if (known.length === 0) return "";
    const won = wonPerDollar();
    if (won === null) return known.map((currency) => written(amounts[currency], currency)).join(" + ");
    const dollars = (amounts.USD ?? 0) + (amounts.KRW ?? 0) / won;
    return `${written(dollars * won, "KRW")} (${written(dollars, "USD")})`;
}

/** An amount of any size, since the tokens of a question may cost a thousandth of a won. */
function written(amount, currency) {
    const digits =
        amount >= 1 || amount === 0 ? { maximumFractionDigits: 2 } : { maximumSignificantDigits: 2 };
    const format = { style: "currency", currency, currencyDisplay: "narrowSymbol", minimumFractionDigits: 0 };
    return new Intl.NumberFormat(language, { ...format, ...digits }).format(amount);
}
