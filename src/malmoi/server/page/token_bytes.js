/* Tokens as bytes: a token may be a part of a character (한 is three bytes), and only several make it up. No DOM here.

   bytes of the tokens: <think> ... </think> 안녕하세요 <stop>
                                             |start    |end      spanOf, where the answer itself is

Read next: token_view.js.
*/

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** The text of bytes, null if they are no whole characters. */
export function textOf(bytes) {
    try {
        return strict.decode(Uint8Array.from(bytes));
    } catch {
        return null;
    }
}

/** Bytes as one writes them: "ed 95". */
export function hexadecimal(bytes) {
    return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** Where in the bytes of its tokens the text of an answer lies. Before it is the thought, behind it what ended it. */
export function spanOf({ tokens, content, reasoning = "" }) {
    const bytes = bytesOf(tokens);
    if (content === "") return { start: bytes.length, end: bytes.length };
    const thought = encoder.encode(reasoning);
    const behind = Math.max(find(bytes, thought, 0), 0) + thought.length;
    const own = encoder.encode(content);
    const start = Math.max(find(bytes, own, behind), 0);
    return { start, end: start + own.length };
}

/** The whole characters at the beginning of what `tokens` say behind their first `start` bytes. */
export function wholeText(tokens, start) {
    const bytes = Uint8Array.from(bytesOf(tokens).slice(start));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes, { stream: true });
}

/** The tokens of an answer in OpenAI's form, in groups that are whole characters: [{text, tokens, place, at, end}], the first
 *  one's place among the tokens, and where their bytes begin and end. */
export function characterGroups(tokens) {
    const groups = [];
    let held = null;
    let at = 0;
    for (const [place, token] of tokens.entries()) {
        held ??= { tokens: [], place, at };
        held.tokens.push(token);
        at += token.bytes?.length ?? 0;
        const text = textOf(held.tokens.flatMap((one) => one.bytes ?? [...encoder.encode(one.token)]));
        if (text === null && held.tokens.length < 4) continue; // a character has four bytes at most
        groups.push({ ...held, end: at, text: text ?? named(held.tokens) });
        held = null;
    }
    if (held) groups.push({ ...held, end: at, text: named(held.tokens) });
    return groups;
}

function named(tokens) {
    return tokens.map(({ token }) => token).join("");
}

/** A special token has none. */
function bytesOf(tokens) {
    return tokens.flatMap(({ bytes }) => bytes ?? []);
}

/** Where `part` begins in `bytes`, from `start` on; -1 if nowhere. */
function find(bytes, part, start) {
    for (let at = start; at + part.length <= bytes.length; at++)
        if (part.every((byte, index) => bytes[at + index] === byte)) return at;
    return -1;
}
