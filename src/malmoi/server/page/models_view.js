/* The models there are: what each is, whether it is loaded, what it can, what it costs. Read first: models.js. */

import { at, element } from "./dom.js";
import { thinking } from "./models.js";
import { money, priceOf } from "./prices.js";
import { byteSize, number, say } from "./words.js";

/** The names in the select of models: one that runs elsewhere, or chooses among others, is marked. */
export function modelOptions(models) {
    return models.map(({ id, kind }) => element("option", { value: id }, marked(id, kind)));
}

function marked(id, kind) {
    if (kind === "upstream") return `${id} ↗`;
    return kind === "routed" ? `${id} ⇄` : id;
}

/** Fill the list that lies behind the button beside the select. `choose(id)` is called for one that is taken. */
export function drawModels(models, choose) {
    at("models").replaceChildren(
        element("h2", {}, say("modelsTitle")),
        element(
            "ul",
            {},
            models.map((model) => element("li", {}, ...row(model, choose))),
        ),
    );
}

function row(model, choose) {
    const { id, kind, isLoaded } = model;
    const loaded = isLoaded === null || kind === "upstream" ? null : say(isLoaded ? "loaded" : "notLoaded");
    const taking = () => {
        choose(id);
        at("models").hidePopover();
        at("model").focus();
    };
    return [
        element("button", { type: "button", onclick: taking }, marked(id, kind)),
        element(
            "p",
            { class: "hint" },
            [say(`kind_${kind}`), loaded, ...facts(model)].filter(Boolean).join(" · "),
        ),
    ];
}

function facts(model) {
    const { contextLength, parameters, numBytes, abilities, chooses } = model;
    const price = priceOf(model);
    return [
        chooses && chooses.join(", "),
        contextLength !== null && say("contextOf", { length: number(contextLength) }),
        parameters !== null && say("parametersOf", { count: short(parameters) }),
        numBytes && say("memoryOf", { size: byteSize(numBytes) }),
        abilities !== null && thinking(model) !== "never" && say("canThink"),
        abilities?.tools && say("canCall"),
        abilities?.media?.includes("image") && say("canSee"),
        abilities?.media?.includes("audio") && say("canHear"),
        price !== null &&
            say("priceOf", {
                input: money({ [price.currency]: price.input }),
                output: money({ [price.currency]: price.output }),
            }),
    ];
}

/** A count of parameters as one says it: 1.5B. */
function short(count) {
    const [size, name] = [
        [1e9, "B"],
        [1e6, "M"],
        [1e3, "K"],
    ].find(([bound]) => count >= bound) ?? [1, ""];
    return `${number(count / size, count / size < 10 ? 1 : 0)}${name}`;
}
