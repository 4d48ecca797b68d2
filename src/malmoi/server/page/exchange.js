/* Conversations as a JSON file, out and in again. A file that is not one of ours, or is damaged, is refused whole. */

import { PARAMETERS } from "./parameters.js";
import { means } from "./parameter_text.js";

const FORMAT = "malmoi-conversations";
const VERSION = 1;
const ROLES = new Set(["user", "assistant", "tool"]);
const LAST_TIME = 8.64e15; // milliseconds: a Date has no later one
const FILE = /^data:(image|audio)\/[\w.+-]+;base64,([A-Za-z0-9+/]*={0,2})$/;

/** The text of a file with these conversations. */
export function exported(conversations) {
    return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1);
}

/** The conversations of a file's text. Throws Error, with what is wrong, if it is not what `exported` writes. */
export function imported(text) {
    const file = JSON.parse(text);
    if (file?.format !== FORMAT) throw new Error(`format: ${JSON.stringify(file?.format)} ≠ "${FORMAT}"`);
    if (file.version !== VERSION) throw new Error(`version: ${JSON.stringify(file.version)} ≠ ${VERSION}`);
    if (!Array.isArray(file.conversations)) throw new Error("conversations: not a list");
    file.conversations.forEach(check);
    return file.conversations;
}

function check(conversation, index) {
    const where = `conversations[${index}]`;
    const { id, title, created, changed, settings, messages, chosen } = conversation ?? {};
    const isSound =
        typeof id === "string" &&
        typeof title === "string" &&
        isTime(created) &&
        isTime(changed) &&
        isRecord(settings) &&
        isRecord(settings.parameters) &&
        areParameters(settings.parameters) &&
        typeof settings.system === "string" &&
        isRecord(messages) &&
        isRecord(chosen);
    if (!isSound) throw new Error(`${where}: not a conversation`);
    for (const [key, message] of Object.entries(messages)) {
        const isMessage =
            message?.id === key &&
            ROLES.has(message.role) &&
            typeof message.content === "string" &&
            (message.role !== "tool" || typeof message.call === "string") &&
            (message.tokens === undefined || areTokens(message.tokens)) &&
            (message.media === undefined || isListOf(isFile, message.media)) &&
            (message.calls === undefined || isListOf(isCall, message.calls)) &&
            (message.usage === undefined || isUsage(message.usage)) &&
            (message.timings === undefined || isTimings(message.timings)) &&
            (message.reasoning === undefined || typeof message.reasoning === "string") &&
            (message.began === undefined || typeof message.began?.text === "string") &&
            (message.parent === "" || Object.hasOwn(messages, message.parent));
        if (!isMessage) throw new Error(`${where}.messages[${JSON.stringify(key)}]: not a message`);
    }
    for (const [parent, child] of Object.entries(chosen)) {
        if (messages[child]?.parent !== parent)
            throw new Error(`${where}.chosen[${JSON.stringify(parent)}]: no branch`);
    }
    // A message under itself would be walked for ever.
    for (const message of Object.values(messages)) {
        const seen = new Set();
        for (let at = message; at; at = messages[at.parent]) {
            if (seen.has(at.id))
                throw new Error(`${where}.messages[${JSON.stringify(at.id)}]: is under itself`);
            seen.add(at.id);
        }
    }
}

function isTime(time) {
    return Number.isFinite(time) && Math.abs(time) <= LAST_TIME;
}

/** Whether every parameter has a value that could have been typed. What the page has no field for is not sent either. */
function areParameters(values) {
    const given = PARAMETERS.filter(({ name }) => Object.hasOwn(values, name));
    return given.every((parameter) => means(parameter, values[parameter.name]));
}

function isUsage(usage) {
    const names = ["prompt_tokens", "completion_tokens", "total_tokens"];
    const details = [
        usage?.prompt_tokens_details?.cached_tokens,
        usage?.completion_tokens_details?.reasoning_tokens,
    ];
    return (
        names.every((name) => Number.isFinite(usage?.[name])) &&
        details.every((count) => count == null || Number.isFinite(count))
    );
}

function isTimings(timings) {
    return ["first_token_s", "tokens_per_second"].every((name) => Number.isFinite(timings?.[name]));
}

function areTokens(tokens) {
    const hasBytes = ({ bytes }) => bytes == null || isListOf(Number.isInteger, bytes);
    const isToken = (one) => typeof one?.token === "string" && Number.isFinite(one.logprob) && hasBytes(one);
    return isListOf(
        (one) => isToken(one) && (one.top_logprobs === undefined || isListOf(isToken, one.top_logprobs)),
        tokens,
    );
}

function isFile(file) {
    const [, kind, data] = FILE.exec(file?.url ?? "") ?? [];
    const isNamed = typeof file?.name === "string" && typeof file.type === "string";
    return isNamed && Number.isFinite(file.size) && kind === file.kind && data.length % 4 === 0;
}

function isCall(call) {
    return ["id", "name", "arguments"].every((name) => typeof call?.[name] === "string");
}

function isListOf(isOne, list) {
    return Array.isArray(list) && list.every(isOne);
}

function isRecord(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}
