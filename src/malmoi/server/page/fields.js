/* Fields of the settings: a name, a control, a line of explanation. Read next: settings_view.js. */

import { element } from "./dom.js";

let numHints = 0;

/** A row of the settings. The hint is read with the control. */
export function labelled(name, hint, control) {
    const id = `hint-${++numHints}`;
    if (hint) control.setAttribute("aria-describedby", id);
    const label = element("label", {}, element("span", { class: "name" }, name), control);
    return element("div", { class: "field" }, label, hint && element("p", { class: "hint", id }, hint));
}

/** A choice among [key, name]; `set(key)` is called with what is chosen. */
export function select(options, value, set) {
    const made = element(
        "select",
        { onchange: (event) => set(event.target.value) },
        options.map(([key, name]) => element("option", { value: key }, name)),
    );
    made.value = value;
    return made;
}

/** A box of several lines; `set(text)` is called as one types. */
export function area(text, set) {
    return element(
        "textarea",
        { rows: 3, spellcheck: "false", oninput: (event) => set(event.target.value) },
        text,
    );
}

/** A box of one line for a number, as text. */
export function numberBox(text, set, { isWhole, placeholder = "" }) {
    return element("input", {
        type: "text",
        inputmode: isWhole ? "numeric" : "decimal",
        autocomplete: "off",
        placeholder,
        value: text,
        oninput: (event) => set(event.target.value),
    });
}

/** A box to tick. */
export function tick(isTicked, set, attributes = {}) {
    const onchange = (event) => set(event.target.checked);
    return element("input", { type: "checkbox", checked: isTicked, onchange, ...attributes });
}

/** A button with words on it. */
export function plainButton(words, onclick) {
    return element("button", { type: "button", class: "plain", onclick }, words);
}
