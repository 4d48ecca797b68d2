/* The models of /v1/models as the page knows them, and what may be asked of each. No DOM here.

   {id, kind, isLoaded, contextLength, parameters, numBytes, abilities, price, chooses}   null is what nobody knows yet

A model that is not loaded, or runs elsewhere, may not say what it can: then it is asked, and its refusal shown.
Read next: models_view.js.
*/

const SILENT = new Set(["reads", "hears"]); // kinds that write no answers

/** A model from its entry in the list. */
export function modelOf({ id, malmoi }) {
    return {
        id,
        kind: malmoi?.kind ?? "writes",
        isLoaded: malmoi?.loaded ?? null,
        contextLength: malmoi?.context_length ?? null,
        parameters: malmoi?.parameters ?? null,
        numBytes: malmoi?.bytes ?? null,
        abilities: malmoi?.abilities ?? null,
        price: malmoi?.price ?? null,
        chooses: malmoi?.chooses ?? null,
    };
}

/** Whether a model can be chatted with. */
export function canChat({ kind }) {
    return !SILENT.has(kind);
}

/** Whether its tokenizer is on this server. */
export function canCut({ kind }) {
    return kind !== "upstream" && kind !== "routed";
}

/** "never", "always" or "switchable": whether a model thinks before it answers. */
export function thinking(model) {
    return model?.abilities?.thinking ?? "switchable";
}

/** Whether a model can be given tools. */
export function takesTools(model) {
    return model?.abilities?.tools ?? true;
}

/** Whether a model takes `medium`, "image" or "audio". */
export function takesMedium(model, medium) {
    return model?.abilities?.media?.includes(medium) ?? true;
}
