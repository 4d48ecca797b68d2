/* Markdown -> a tree of plain values, block by block. No HTML comes in or out: markdown_view.js makes elements of it.

   text -> blocks(text) -> [{kind: "paragraph", source, children: [{kind: "strong", children: [...]}]}]

CommonMark's usual subset with GitHub's tables and task lists, and formulas (math.js). Two differences, on purpose: HTML
is text; and text that is still arriving may end anywhere, inside a fence too. Read next: markdown_spans.js, what is
within a line.
*/

import { inline } from "./markdown_spans.js";

// None of these may look at a run of blanks twice: a model that writes nothing else must not hold the page up.
const FENCE = /^ {0,3}(`{3,}|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*))?$/s;
const HEADING_END = /(?:^|\s)#+$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}>\s?/;
const ITEM = /^(\s*)([-*+]|\d{1,3}[.)])(?:(\s+)(.*))?$/s; // 2026. 3. 1. is a date, and no list
const TASK = /^\[([ xX])\]\s+/;
const TABLE_RULE = /^\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?$/;
const MAX_DEPTH = 12; // of blocks within blocks

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
        const close = indexBehind(lines, at, (line) => closing.test(line));
        return close < 0 ? lines.length : close + 1;
    },
    read([first, ...rest]) {
        const [, mark, info] = FENCE.exec(first);
        const [language] = info.trim().split(/\s/);
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
        const title = text.trim().replace(HEADING_END, "").trim();
        return { kind: "heading", level: marks.length, children: inline(title, isOpen) };
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
                const next = indexBehind(lines, at, (later) => later.trim() !== "");
                if (next < 0 || !belongs(lines[next], indent, marker)) return at;
                at = next - 1;
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
        TABLE_RULE.test(lines[at + 1].trim()) &&
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
    const end = indexBehind(lines, at, (line) => line.includes(close));
    return end > 0 && lines[end].trimEnd().endsWith(close) ? end + 1 : at;
}

/** The first place behind `at` whose line is such a one, -1 if there is none. */
function indexBehind(lines, at, isOne) {
    for (let index = at + 1; index < lines.length; index++) if (isOne(lines[index])) return index;
    return -1;
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
