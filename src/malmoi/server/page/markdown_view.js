/* The tree of markdown.js -> elements. Safe by construction: text only ever becomes a text node, and an address a link
   only if it is of the web or of mail. Pictures are links as well: nothing is fetched because a model said so. */

import { copyButton, element } from "./dom.js";
import { highlighted } from "./highlight.js";
import { blocks } from "./markdown.js";
import { formula } from "./math.js";
import { say } from "./words.js";

const ADDRESSES = /^(https?:\/\/|mailto:)/i;

/** Markdown in an element, drawn again as the text grows: a block that has not changed keeps its elements, so that a
 *  selection in it stays, and a long answer costs no more than its last paragraph. */
export class MarkdownView {
    #container;
    #drawn = [];

    constructor(container) {
        this.#container = container;
    }

    /** Show `text`; `isOpen`: more of it is coming. */
    update(text, isOpen) {
        const wanted = blocks(text, isOpen);
        let same = 0;
        while (same < wanted.length && isSame(this.#drawn[same], wanted[same])) same++;
        while (this.#container.childNodes.length > same) this.#container.lastChild.remove();
        this.#container.append(...wanted.slice(same).map(blockElement));
        this.#drawn = wanted;
    }
}

function isSame(drawn, wanted) {
    return drawn?.source === wanted.source && drawn.kind === wanted.kind && drawn.isOpen === wanted.isOpen;
}

const BLOCKS = {
    paragraph: ({ children }) => element("p", {}, spans(children)),
    heading: ({ level, children }) =>
        element(`h${Math.min(level + 2, 6)}`, { class: `h${level}` }, spans(children)),
    formula: ({ tex }) => element("p", { class: "formula", tabindex: 0 }, formula(tex, true)),
    rule: () => element("hr"),
    quote: ({ children }) => element("blockquote", {}, children.map(blockElement)),
    list: ({ isOrdered, start, children }) =>
        element(
            isOrdered ? "ol" : "ul",
            { start: isOrdered && start !== 1 && start },
            children.map(itemElement),
        ),
    table: ({ aligns, head, rows }) => {
        const row = (tag, cells) =>
            element(
                "tr",
                {},
                cells.map((cell, column) => element(tag, { class: aligns[column] }, spans(cell))),
            );
        const body = element(
            "tbody",
            {},
            rows.map((cells) => row("td", cells)),
        );
        return element(
            "div",
            { class: "table", tabindex: 0 },
            element("table", {}, element("thead", {}, row("th", head)), body),
        );
    },
    code: ({ language, text }) =>
        element(
            "figure",
            { class: "code" },
            element(
                "figcaption",
                {},
                language,
                copyButton(say("copyCode"), say("copied"), () => text),
            ),
            element("pre", { tabindex: 0 }, element("code", {}, codePieces(text, language))),
        ),
};

function blockElement(block) {
    return BLOCKS[block.kind](block);
}

function itemElement({ isDone, children }) {
    const box = isDone !== null && element("input", { type: "checkbox", disabled: true, checked: isDone });
    return element("li", { class: isDone !== null && "task" }, box, children.map(blockElement));
}

function codePieces(text, language) {
    return highlighted(text, language).map((piece) =>
        typeof piece === "string" ? piece : element("span", { class: piece.kind }, piece.text),
    );
}

const TAGS = { strong: "strong", em: "em", strike: "s" };

function spans(children) {
    return children.map((span) => {
        if (typeof span === "string") return span;
        if (span.kind === "break") return element("br");
        if (span.kind === "formula") return formula(span.tex, false);
        if (span.kind === "code") return element("code", {}, span.text);
        if (span.kind !== "link") return element(TAGS[span.kind], {}, spans(span.children));
        if (!ADDRESSES.test(span.address))
            return element("span", { title: span.address }, spans(span.children));
        return element(
            "a",
            { href: span.address, target: "_blank", rel: "noopener noreferrer" },
            spans(span.children),
        );
    });
}
