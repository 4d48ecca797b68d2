/* The drawer of settings: system prompt, presets and parameters of a chat; look, key and prices of this browser.

   PARAMETERS -> parameter_field.js -> a row each, those that the models of the chat take

Read next: parameters.js.
*/

import { element, iconButton } from "./dom.js";
import { area, labelled } from "./fields.js";
import { lookFields } from "./look_fields.js";
import { parameterField } from "./parameter_field.js";
import { PARAMETERS } from "./parameters.js";
import { presetsRow } from "./presets_view.js";
import { priceFields } from "./prices_field.js";
import { say } from "./words.js";

/** Fills `dialog`. `settings()` gives those of the chat that is shown, `changed()` is called when they have changed;
 *  `models()` are all, `asked()` those that the next question goes to; `priced()` is called when a price has changed;
 *  `otherModel`, `seesTokens` and `key` are Preferences that are edited here too. */
export class SettingsView {
    #dialog;
    #parts;

    constructor(dialog, parts) {
        this.#dialog = dialog;
        this.#parts = parts;
        dialog.addEventListener("click", (event) => {
            if (event.target === dialog) dialog.close(); // beside the drawer
        });
    }

    /** Open the drawer, with what holds now. */
    show() {
        this.#draw();
        this.#dialog.showModal();
    }

    #draw() {
        const { settings, changed, models, priced } = this.#parts;
        const close = iconButton("close", say("close"), () => this.#dialog.close());
        const set = (system) => {
            settings().system = system;
            changed();
        };
        const presets = presetsRow(settings(), {
            apply: (preset) => this.#apply(preset),
            changed: () => this.#draw(),
        });
        const chatting = models();
        this.#dialog.replaceChildren(
            element("header", {}, element("h2", { id: "settings-title" }, say("settings")), close),
            labelled(say("system"), say("systemHint"), area(settings().system, set)),
            element("h3", {}, say("parameters")),
            element("p", { class: "hint" }, say("parametersHint")),
            presets,
            ...this.#rows(undefined),
            this.#folded("rare", say("more")),
            element("h3", {}, say("thoughts")),
            ...this.#rows("thinking", say("neverThinks")),
            element("h3", {}, say("forms")),
            ...this.#rows("form"),
            element("h3", {}, say("look")),
            ...lookFields({ ...this.#parts, models: chatting }),
            element("h3", {}, say("prices")),
            element("p", { class: "hint" }, say("pricesHint")),
            ...priceFields(chatting, priced),
        );
    }

    /** The rows of a group, for what one of the models that are asked takes; `otherwise` says that there are none. */
    #rows(group, otherwise) {
        const { settings, changed, asked } = this.#parts;
        const rows = PARAMETERS.filter(
            (parameter) => parameter.group === group && asked().some(parameter.needs ?? (() => true)),
        ).map((parameter) => parameterField(parameter, settings().parameters, changed));
        return rows.length > 0 ? rows : [element("p", { class: "hint" }, otherwise)];
    }

    #folded(group, words) {
        const held = this.#parts.settings().parameters;
        const isOpen = PARAMETERS.some((one) => one.group === group && one.name in held);
        return element("details", { open: isOpen }, element("summary", {}, words), this.#rows(group));
    }

    #apply({ system, parameters }) {
        Object.assign(this.#parts.settings(), {
            parameters: structuredClone(parameters),
            ...(system !== undefined && { system }),
        });
        this.#parts.changed();
        this.#draw();
    }
}
