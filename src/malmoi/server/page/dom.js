/* The few lines that stand for a framework: elements, icons, a short-lived notice, the clipboard. */

import { say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const NOTICE_MS = 6000;

/** The element of index.html with this id. */
export const at = (id) => document.getElementById(id);

/** An element: `element("button", {class: "plain", onclick: act, disabled: false}, "text", child)`. A function is a
 *  listener, true an empty attribute; false, null and undefined leave an attribute or a child out. Text stays text. */
export function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") made.addEventListener(name.slice(2), value);
        else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== false && child != null));
    return made;
}

/** A picture of icons.svg, which says nothing to a screen reader: what it is on has a label. */
export function icon(name) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(SVG, "use");
    use.setAttribute("href", `/page/icons.svg#${name}`);
    svg.append(use);
    return svg;
}

/** A button that is an icon: `label` is what it says and what it shows under the pointer. */
export function iconButton(name, label, onclick, attributes = {}) {
    const button = { type: "button", class: "icon-button", title: label, "aria-label": label, onclick };
    return element("button", { ...button, ...attributes }, icon(name));
}

/** Say something at the foot of the page for a while, with a button if there is something to do about it. */
export function notify(text, { action, onclick } = {}) {
    const notice = element("div", { class: "notice" }, text);
    if (action) {
        notice.append(
            element(
                "button",
                {
                    type: "button",
                    onclick: () => {
                        notice.remove();
                        onclick();
                    },
                },
                action,
            ),
        );
    }
    at("notices").replaceChildren(notice);
    setTimeout(() => notice.remove(), NOTICE_MS);
}

/** Put text on the clipboard, also on a page without https, where the browser has no `navigator.clipboard`.
 *  Rejects if the browser does not let it. */
export async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const box = element("textarea", { class: "unseen" });
    box.value = text;
    document.body.append(box);
    box.select();
    const isCopied = document.execCommand("copy");
    box.remove();
    if (!isCopied) throw new Error("copy");
}

/** A button that copies what `text()` gives, and shows for a moment that it did. */
export function copyButton(label, done, text) {
    const button = iconButton("copy", label, async () => {
        try {
            await copy(text());
        } catch (problem) {
            notify(say("notCopied", { problem }));
            return;
        }
        button.replaceChildren(icon("check"));
        button.setAttribute("aria-label", done);
        setTimeout(() => {
            button.replaceChildren(icon("copy"));
            button.setAttribute("aria-label", label);
        }, 1500);
    });
    return button;
}
