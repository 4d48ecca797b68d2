/* Markdown -> a tree of plain values, block by block. No HTML comes in or out: markdown_view.js makes elements of it.

   text -> blocks(text) -> [{kind: "paragraph", source, children: [{kind: "strong", children: [...]}]}]

CommonMark's usual subset with GitHub's tables, task lists and ~~strike~~, and $formulas$ (math.js). Three
differences, on purpose: HTML is text; text that is still arriving may end anywhere, inside a fence too; and ** closes
wherever no blank precedes it, so that **"강조"**는 is emphasis, which CommonMark 0.31 (section 6.2) denies Korean, since
a letter follows the quotation mark.
*/

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}>\s?/;
const ITEM = /^(\s*)([-*+]|\d{1,3}[.)])(?:(\s+)(.*))?$/; // 2026. 3. 1. is a date, and no list
const TASK = /^\[([ xX])\]\s+/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const MAX_DEPTH = 12;

/** The blocks of `text`. Each has a `kind` and its `source`, by which a view knows what it has drawn already.
 *  `isOpen`: the text is still arriving, so what it leaves unclosed at its end counts as closed there. */
export function blocks(text, isOpen = false) {
    return blocksOf(text.replace(/\r\n?/g, "\n").split("\n"), isOpen, 0);
}

function blocksOf(lines, isOpen, depth) {
    const found = [];
    let at = 0;
    while (at < lines.length) {
        if (lines[at].trim() === "") {
            at++;
            continue;
        }
        const read = READERS.find((reader) => reader.starts(lines, at)) ?? PARAGRAPH;
        const end = depth > MAX_DEPTH ? lines.length : read.end(lines, at);
        const own = lines.slice(at, end);
        const isLast = isOpen && end === lines.length;
        const block = depth > MAX_DEPTH ? PARAGRAPH.read(own, isLast, depth) : read.read(own, isLast, depth);
        found.push({ ...block, source: own.join("\n"), isOpen: isLast });
        at = end;
    }
    return found;
}

// A reader says where its kind of block starts, where it ends, and what its lines mean.

const CODE = {
    starts: (lines, at) => FENCE.test(lines[at]),
    end(lines, at) {
        const [, mark] = FENCE.exec(lines[at]);
        const closing = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
        const close = lines.findIndex((line, index) => index > at && closing.test(line));
        return close < 0 ? lines.length : close + 1;
    },
    read([first, ...rest]) {
        const [, mark, language] = FENCE.exec(first);
        const closing = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
        if (rest.length > 0 && closing.test(rest.at(-1))) rest = rest.slice(0, -1);
        return { kind: "code", language, text: rest.join("\n") };
    },
};

const TITLE = {
    starts: (lines, at) => HEADING.test(lines[at]),
    end: (lines, at) => at + 1,
    read([line], isOpen) {
        const [, marks, text = ""] = HEADING.exec(line);
        return { kind: "heading", level: marks.length, children: inline(text, isOpen) };
    },
};

const LINE = {
    starts: (lines, at) => RULE.test(lines[at]),
    end: (lines, at) => at + 1,
    read: () => ({ kind: "rule" }),
};

const CITATION = {
    starts: (lines, at) => QUOTE.test(lines[at]),
    end(lines, at) {
        while (
            at < lines.length &&
            lines[at].trim() !== "" &&
            (QUOTE.test(lines[at]) || !breaksIn(lines, at))
        )
            at++;
        return at;
    },
    read(lines, isOpen, depth) {
        const children = blocksOf(
            lines.map((line) => line.replace(QUOTE, "")),
            isOpen,
            depth + 1,
        );
        return { kind: "quote", children };
    },
};

const LIST = {
    starts: (lines, at) => ITEM.test(lines[at]),
    end(lines, at) {
        const [, indent, marker] = ITEM.exec(lines[at]);
        for (at++; at < lines.length; at++) {
            const line = lines[at];
            if (line.trim() === "") {
                // A blank line ends the list, unless the list goes on behind it.
                const next = lines.findIndex((later, index) => index > at && later.trim() !== "");
                if (next < 0 || !belongs(lines[next], indent, marker)) return at;
            } else if (
                !belongs(line, indent, marker) &&
                (breaksIn(lines, at) || lines[at - 1].trim() === "")
            ) {
                return at;
            }
        }
        return at;
    },
    read(lines, isOpen, depth) {
        const [, indent, marker] = ITEM.exec(lines[0]);
        const items = [];
        for (const line of lines) {
            const match = ITEM.exec(line);
            if (match && match[1].length < indent.length + 2 && isSameList(match[2], marker)) {
                items.push({ width: match[1].length + match[2].length + 1, lines: [match[4] ?? ""] });
            } else {
                // Models indent what is inside an item by two blanks or more, whatever the marker's width.
                const { width, lines: own } = items.at(-1);
                own.push(line.slice(Math.min(width, line.length - line.trimStart().length)));
            }
        }
        const children = items.map((item, index) => {
            const task = TASK.exec(item.lines[0]);
            if (task) item.lines[0] = item.lines[0].slice(task[0].length);
            const isLast = isOpen && index === items.length - 1;
            return { isDone: task && task[1] !== " ", children: blocksOf(item.lines, isLast, depth + 1) };
        });
        const isOrdered = /\d/.test(marker);
        return { kind: "list", isOrdered, start: isOrdered ? parseInt(marker, 10) : 1, children };
    },
};

const TABLE = {
    starts: (lines, at) =>
        lines[at].includes("|") &&
        at + 1 < lines.length &&
        TABLE_RULE.test(lines[at + 1]) &&
        cells(lines[at]).length === cells(lines[at + 1]).length,
    end(lines, at) {
        at += 2;
        while (at < lines.length && lines[at].trim() !== "" && lines[at].includes("|")) at++;
        return at;
    },
    read([head, rule, ...rows], isOpen) {
        const aligns = cells(rule).map((cell) =>
            cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start",
        );
        const row = (line) => {
            const own = cells(line);
            return aligns.map((_, column) => inline(own[column] ?? "", isOpen));
        };
        return { kind: "table", aligns, head: row(head), rows: rows.map(row) };
    },
};

const FORMULA = {
    starts: (lines, at) => formulaEnd(lines, at) > at,
    end: (lines, at) => formulaEnd(lines, at),
    read: (lines) => ({ kind: "formula", tex: lines.join("\n").trim().slice(2, -2) }),
};

/** Behind the line that closes the formula which fills its lines from this one on; `at` itself if there is none. */
function formulaEnd(lines, at) {
    const open = lines[at].trimStart().slice(0, 2);
    const close = { $$: "$$", "\\[": "\\]" }[open];
    if (close === undefined) return at;
    if (lines[at].trim().length > 3 && lines[at].trimEnd().endsWith(close)) return at + 1;
    const end = lines.findIndex((line, index) => index > at && line.includes(close));
    return end > 0 && lines[end].trimEnd().endsWith(close) ? end + 1 : at;
}

const READERS = [CODE, FORMULA, TITLE, LINE, CITATION, LIST, TABLE];

const PARAGRAPH = {
    end(lines, at) {
        for (at++; at < lines.length && lines[at].trim() !== "" && !breaksIn(lines, at); at++);
        return at;
    },
    read: (lines, isOpen) => ({ kind: "paragraph", children: inline(lines.join("\n").trim(), isOpen) }),
};

/** Whether a block other than a paragraph starts here, in the midst of one: of numbered lists only those from 1. */
function breaksIn(lines, at) {
    const reader = READERS.find(({ starts }) => starts(lines, at));
    return reader === LIST ? /^\s*([-*+]|1[.)])\s/.test(lines[at]) : reader !== undefined;
}

function belongs(line, indent, marker) {
    const own = line.length - line.trimStart().length;
    const match = ITEM.exec(line);
    return own >= indent.length + 2 || (match !== null && !RULE.test(line) && isSameList(match[2], marker));
}

function isSameList(marker, other) {
    return /\d/.test(marker) ? /\d/.test(other) && marker.at(-1) === other.at(-1) : marker === other;
}

function cells(line) {
    return line
        .trim()
        .replace(/^\|/, "")
        .replace(/(?<!\\)\|$/, "")
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim().replaceAll("\\|", "|"));
}

const ESCAPED = /^\\([\\`*_~#>|!.+$-])/;
const ADDRESS = /^https?:\/\/[^\s<>"'`|]*[^\s<>"'`|.,:;!?)\]}가-힣]/u;
const ANGLED = /^<(https?:\/\/[^\s<>]+|mailto:[^\s<>]+)>/;
const LINK =
    /^!?\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+"[^"]*")?\s*\)/;
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
const WORD = /[\p{L}\p{N}]/u;

/** The spans of a paragraph: strings, and {kind, ...}. */
function inline(text, isOpen, depth = 0) {
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
        const children = inline(link[1] || link[2], false, depth + 1);
        return { made: { kind: "link", address: link[2], children }, end: at + link[0].length };
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
    const trimmed = /^ .*\S.* $/s.test(own) ? own.slice(1, -1) : own;
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
