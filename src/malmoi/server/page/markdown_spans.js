/* What is within a paragraph of Markdown: strings, and {kind: "strong" | "em" | "strike" | "code" | "link" | ..., ...}.

CommonMark's, with GitHub's ~~strike~~ and $formulas$. One difference, on purpose: ** closes wherever no blank precedes
it, so that **"강조"**는 is emphasis, which CommonMark 0.31 (section 6.2) denies Korean, since a letter follows the
quotation mark. Read first: markdown.js, which cuts a text into blocks.
*/

const ESCAPED = /^\\([\\`*_~#>|!.+$-])/;
const ADDRESS = /^https?:\/\/[^\s<>"'`|]*[^\s<>"'`|.,:;!?)\]}가-힣]/u;
const ANGLED = /^<(https?:\/\/[^\s<>]+|mailto:[^\s<>]+)>/;
// The blanks behind the parenthesis are taken whole, so that a run of them is not looked at twice.
const LINK =
    /^!?\[(?<text>(?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\((?=(?<blanks>\s*))\k<blanks><?(?<address>[^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+"[^"]*")?\s*\)/;
const MARKS = [
    ["***", "strong-em"],
    ["**", "strong"],
    ["__", "strong"],
    ["~~", "strike"],
    ["*", "em"],
    ["_", "em"],
];
const SPECIAL = /[\\`*_~[!<$\n]|https?:/g;
const FORMULAS = [
    ["$$", "$$"],
    ["\\(", "\\)"],
    ["\\[", "\\]"],
    ["$", "$"],
];
const MAX_DEPTH = 12; // of spans within spans
const WORD = /[\p{L}\p{N}]/u;

/** The spans of `text`. `isOpen`: more of it is coming, so what it leaves unclosed at its end counts as closed there. */
export function inline(text, isOpen, depth = 0) {
    const spans = [];
    const unclosed = new Set(); // marks that nothing behind this place closes: looked for once
    let plain = "";
    const push = (span) => {
        if (plain) spans.push(plain);
        plain = "";
        spans.push(span);
    };
    let at = 0;
    while (at < text.length) {
        SPECIAL.lastIndex = at;
        const next = depth > MAX_DEPTH ? text.length : (SPECIAL.exec(text)?.index ?? text.length);
        plain += text.slice(at, next);
        at = next;
        if (at === text.length) break;
        const span = spanAt(text, at, { isOpen, depth, unclosed });
        if (span === null) {
            plain += text[at++];
        } else {
            at = span.end;
            if (typeof span.made === "string") plain += span.made;
            else push(span.made);
        }
    }
    if (plain) spans.push(plain);
    return spans;
}

/** What starts at `at`, as {made, end}; null if the character there is only itself. */
function spanAt(text, at, { isOpen, depth, unclosed }) {
    const rest = text.slice(at);
    if (text[at] === "\n") return { made: { kind: "break" }, end: at + 1 };
    const escaped = ESCAPED.exec(rest);
    if (escaped) return { made: escaped[1], end: at + 2 };
    if (text[at] === "`") return codeAt(text, at, isOpen, unclosed);
    const formula = formulaAt(text, at, unclosed);
    if (formula) return formula;
    const address = ANGLED.exec(rest)?.[1] ?? ADDRESS.exec(rest)?.[0];
    if (address) {
        const end = at + address.length + (text[at] === "<" ? 2 : 0);
        return { made: { kind: "link", address, children: [address] }, end };
    }
    const link = text[at] === "[" || text[at] === "!" ? LINK.exec(rest) : null;
    if (link) {
        const { text: name, address: target } = link.groups;
        const children = inline(name || target, false, depth + 1);
        return { made: { kind: "link", address: target, children }, end: at + link[0].length };
    }
    for (const [mark, kind] of MARKS) {
        if (!rest.startsWith(mark)) continue;
        const close = unclosed.has(mark) ? -1 : closing(text, at, mark);
        if (close < 0) unclosed.add(mark);
        const isCut = close < 0 && isOpen && mark.length === 2 && opens(text, at, mark);
        if (close < 0 && !isCut) continue;
        const children = inline(text.slice(at + mark.length, isCut ? undefined : close), isOpen, depth + 1);
        const made =
            kind === "strong-em"
                ? { kind: "strong", children: [{ kind: "em", children }] }
                : { kind, children };
        return { made, end: isCut ? text.length : close + mark.length };
    }
    return null;
}

/** A formula within a line. $5와 $6 are prices: a formula has no blank within its signs, and no digit behind them. */
function formulaAt(text, at, unclosed) {
    const [open, close] = FORMULAS.find(([mark]) => text.startsWith(mark, at)) ?? [];
    if (open === undefined || unclosed.has(open)) return null;
    const end = text.indexOf(close, at + open.length);
    if (end < 0) unclosed.add(open);
    const tex = text.slice(at + open.length, end);
    const isPrice = open === "$" && (/^\s|\s$|\n/.test(tex) || /\d/.test(text[end + 1] ?? ""));
    return end < 0 || tex.trim() === "" || isPrice
        ? null
        : { made: { kind: "formula", tex }, end: end + close.length };
}

function codeAt(text, at, isOpen, unclosed) {
    const [ticks] = /^`+/.exec(text.slice(at));
    let close = unclosed.has(ticks) ? -1 : text.indexOf(ticks, at + ticks.length);
    while (close >= 0 && text[close + ticks.length] === "`") {
        const [run] = /^`+/.exec(text.slice(close));
        close = text.indexOf(ticks, close + run.length);
    }
    if (close < 0) unclosed.add(ticks);
    if (close < 0 && !isOpen) return { made: ticks, end: at + ticks.length };
    const own = close < 0 ? text.slice(at + ticks.length) : text.slice(at + ticks.length, close);
    const isPadded = own.startsWith(" ") && own.endsWith(" ") && own.trim() !== "";
    const trimmed = isPadded ? own.slice(1, -1) : own;
    return { made: { kind: "code", text: trimmed }, end: close < 0 ? text.length : close + ticks.length };
}

function opens(text, at, mark) {
    const next = text[at + mark.length];
    // snake_case is no emphasis, and neither is 2 * 3.
    return next !== undefined && !/\s/.test(next) && !(mark[0] === "_" && WORD.test(text[at - 1] ?? " "));
}

function closing(text, at, mark) {
    if (!opens(text, at, mark)) return -1;
    for (let close = at + mark.length + 1; ; close += 1) {
        close = text.indexOf(mark, close);
        if (close < 0) return -1;
        const isRun = mark.length === 1 && (text[close + 1] === mark || text[close - 1] === mark);
        const isWord = mark[0] === "_" && WORD.test(text[close + mark.length] ?? " ");
        if (!/[\s\\]/.test(text[close - 1]) && !isRun && !isWord) return close;
    }
}
