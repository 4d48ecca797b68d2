/* What is typed for a parameter <-> its value: numbers with their range, lists by the line, JSON. No DOM here.

Read first: parameters.js; read next: parameter_field.js, where it is typed.
*/

const NAME = /^[\w.-]{1,64}$/; // of a tool

/** What a field's text means: a value for the request, undefined if it is empty.
 *  Throws Error for a text that means none: its message is a key of words.js, its `values` are what it says. */
export function parse({ kind, low, high, step, options }, text) {
    if (text.trim() === "") return undefined;
    if (kind === "number") return parseNumber(text, low, high, step);
    if (kind === "lines") return text.split("\n").filter((line) => line !== "");
    if (kind === "biases") return parseBiases(text);
    if (kind === "options") return structuredClone(options[Number(text)][0]);
    if (kind === "schema") return parseSchema(text);
    if (kind === "tools") return parseTools(text);
    return text;
}

/** The text of a field with this value: what `parse` reads. */
export function unparse({ kind, options }, value) {
    if (value === undefined) return "";
    if (kind === "lines") return value.join("\n");
    if (kind === "biases")
        return Object.entries(value)
            .map(([id, bias]) => `${id}: ${bias}`)
            .join("\n");
    if (kind === "options") return String(options.findIndex(([one]) => isSame(one, value)));
    if (kind === "schema") return JSON.stringify(value.json_schema?.schema ?? {}, null, 2);
    if (kind === "tools") return JSON.stringify(value, null, 2);
    return String(value);
}

/** Whether `value` is one that the parameter can have: one that its field gives back. */
export function means(parameter, value) {
    if (parameter.kind === "flag") return typeof value === "boolean";
    try {
        return isSame(parse(parameter, unparse(parameter, value)), value);
    } catch {
        return false;
    }
}

function parseNumber(text, low, high, step) {
    const value = Number(text);
    if (!(value >= low && value <= high)) throw refusal("outOfRange", { low, high });
    if (step === 1 && !Number.isInteger(value)) throw refusal("notWhole");
    return value;
}

function parseBiases(text) {
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    return Object.fromEntries(
        lines.map((line) => {
            const [, id, bias] = /^\s*(\d+)\s*:\s*(-?\d+(?:\.\d+)?)\s*$/.exec(line) ?? [];
            if (id === undefined) throw refusal("notBiases");
            return [id, Number(bias)];
        }),
    );
}

/** A schema in OpenAI's wrapping; of an empty one, the form that any object has. */
function parseSchema(text) {
    const schema = parseJson(text);
    if (!isObject(schema)) throw refusal("notObject");
    if (Object.keys(schema).length === 0) return { type: "json_object" };
    return { type: "json_schema", json_schema: { name: "answer", schema } };
}

function parseTools(text) {
    const tools = parseJson(text);
    const isTool = (tool) =>
        tool?.type === "function" &&
        NAME.test(tool.function?.name ?? "") &&
        (tool.function.parameters === undefined || isObject(tool.function.parameters));
    if (!Array.isArray(tools) || tools.length === 0 || !tools.every(isTool)) throw refusal("notTools");
    return tools;
}

function parseJson(text) {
    try {
        return JSON.parse(text);
    } catch (problem) {
        throw refusal("notJson", { problem: problem.message });
    }
}

function isObject(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSame(one, other) {
    return JSON.stringify(one) === JSON.stringify(other);
}

/** Why a text means no value: a key of the phrases, and what it says. */
export function refusal(key, values = {}) {
    return Object.assign(new Error(key), { values });
}
