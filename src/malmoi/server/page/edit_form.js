/* A question that is being edited: a box in its place, which sends what it holds as a branch. Read first:
   compose_box.js. */

import { ComposeBox } from "./compose_box.js";
import { element, icon } from "./dom.js";
import { say } from "./words.js";

/** The form with `text` in it. `send(text)` returns false if nothing was sent; `close(isSent)` is called when it is
 *  done with. Call `begin()` of what is returned when it is on the page. */
export function editForm(text, { send, close, canBeEmpty }) {
    const textarea = element("textarea", { rows: 1, "aria-label": say("edit") });
    const box = new ComposeBox(
        textarea,
        (edited) => {
            const isSent = send(edited);
            if (isSent) close(true);
            return isSent;
        },
        () => canBeEmpty,
    );
    const onsubmit = (event) => {
        event.preventDefault();
        box.send();
    };
    const onkeydown = (event) => {
        if (event.key !== "Escape" || event.isComposing) return;
        event.stopPropagation();
        close(false);
    };
    const form = element(
        "form",
        { class: "edit", onsubmit, onkeydown },
        textarea,
        element(
            "div",
            {},
            element("button", { type: "button", class: "plain", onclick: () => close(false) }, say("cancel")),
            element("button", { type: "submit", class: "strong" }, icon("send"), say("send")),
        ),
    );
    const begin = () => {
        box.text = text;
        textarea.focus();
    };
    return { form, begin };
}
