/* The drawer of settings: system prompt, presets and parameters of a chat; look, language and key of this browser. */

import { element, iconButton } from "./dom.js";
import { PARAMETERS, PRESETS, parse, unparse } from "./parameters.js";
import { Preference } from "./preferences.js";
import { chooseLanguage, chosenLanguage, say, sayIn } from "./words.js";

const presets = new Preference("presets", []); // [{name, system, parameters}]
const THEME = "malmoi.theme"; // plain text, since theme.js reads it before anything else is there

/** Fills `dialog`. `settings()` gives those of the chat that is shown, `changed()` is called when they have changed;
 *  `models()` names the models; `otherModel`, `seesTokens` and `key` are Preferences that are edited here too. */
export class SettingsView {
    #dialog;
    #settings;
    #changed;
    #preferences;

    constructor(dialog, { settings, changed, ...preferences }) {
        this.#dialog = dialog;
        this.#settings = settings;
        this.#changed = changed;
        dialog.addEventListener("click", (event) => {
            if (event.target === dialog) dialog.close(); // beside the drawer
        });
        this.#preferences = preferences;
    }

    /** Open the drawer, with what holds now. */
    show() {
        this.#draw();
        this.#dialog.showModal();
    }

    #draw() {
        const { system } = this.#settings();
        const close = iconButton("close", say("close"), () => this.#dialog.close());
        const rows = PARAMETERS.map((parameter) => [parameter, this.#parameter(parameter)]);
        const rare = rows.filter(([{ isRare }]) => isRare);
        const isOpen = rare.some(([{ name }]) => name in this.#settings().parameters);
        this.#dialog.replaceChildren(
            element("header", {}, element("h2", { id: "settings-title" }, say("settings")), close),
            labelled(
                say("system"),
                say("systemHint"),
                this.#area(system, (text) => {
                    this.#settings().system = text;
                    this.#changed();
                }),
            ),
            element("h3", {}, say("parameters")),
            element("p", { class: "hint" }, say("parametersHint")),
            this.#presets(),
            ...rows.filter(([{ isRare }]) => !isRare).map(([, row]) => row),
            element(
                "details",
                { open: isOpen },
                element("summary", {}, say("more")),
                rare.map(([, row]) => row),
            ),
            element("h3", {}, say("look")),
            ...this.#look(),
        );
    }

    #parameter(parameter) {
        const { name, about } = parameter;
        const problem = element("p", { class: "problem", role: "alert" });
        const field = this.#field(parameter, (text) => {
            try {
                const value = parse(parameter, text);
                problem.textContent = "";
                field.removeAttribute("aria-invalid");
                if (value === undefined) delete this.#settings().parameters[name];
                else this.#settings().parameters[name] = value;
                this.#changed();
            } catch (refusal) {
                problem.textContent = say(refusal.message, refusal.values);
                field.setAttribute("aria-invalid", "true");
            }
        });
        const row = labelled(element("code", {}, name), sayIn(about), field);
        row.append(problem);
        return row;
    }

    #field(parameter, set) {
        const { kind, name, step, options, labels } = parameter;
        const value = this.#settings().parameters[name];
        if (kind === "flag") {
            return element("input", {
                type: "checkbox",
                checked: value,
                onchange: (event) => {
                    if (event.target.checked) this.#settings().parameters[name] = true;
                    else delete this.#settings().parameters[name];
                    this.#changed();
                },
            });
        }
        const text = unparse(parameter, value);
        if (kind === "scripts")
            return select(
                options.map((option, index) => [option, sayIn(labels[index])]),
                text,
                set,
            );
        if (kind !== "number") return this.#area(text, set);
        const mode = step === 1 ? "numeric" : "decimal";
        const oninput = (event) => set(event.target.value);
        return element("input", {
            type: "text",
            inputmode: mode,
            autocomplete: "off",
            placeholder: say("modelDefault"),
            value: text,
            oninput,
        });
    }

    #area(text, set) {
        return element(
            "textarea",
            { rows: 3, spellcheck: "false", oninput: (event) => set(event.target.value) },
            text,
        );
    }

    #presets() {
        const own = presets.get();
        const all = [...PRESETS.map(({ name, parameters }) => ({ name: sayIn(name), parameters })), ...own];
        const isHeld = ({ system, parameters }) =>
            same(parameters, this.#settings().parameters) &&
            (system === undefined || system === this.#settings().system);
        const held = all.findIndex(isHeld);
        const options = [["", say("presetNone")], ...all.map(({ name }, index) => [String(index), name])];
        const choosing = select(options, held < 0 ? "" : String(held), (index) => {
            if (index === "") return;
            this.#apply(all[Number(index)]);
        });
        const isOwn = held >= PRESETS.length;
        return element(
            "div",
            { class: "presets" },
            labelled(say("preset"), "", choosing),
            element(
                "button",
                { type: "button", class: "plain", onclick: () => this.#askName() },
                say("savePreset"),
            ),
            isOwn &&
                element(
                    "button",
                    {
                        type: "button",
                        class: "plain",
                        onclick: () => {
                            presets.set(own.filter((_, index) => index !== held - PRESETS.length));
                            this.#draw();
                        },
                    },
                    say("deletePreset"),
                ),
            element(
                "button",
                { type: "button", class: "plain", onclick: () => this.#apply({ parameters: {} }) },
                say("reset"),
            ),
        );
    }

    #apply({ system, parameters }) {
        Object.assign(this.#settings(), {
            parameters: structuredClone(parameters),
            ...(system !== undefined && { system }),
        });
        this.#changed();
        this.#draw();
    }

    #askName() {
        const name = element("input", {
            type: "text",
            required: true,
            maxlength: 40,
            placeholder: say("presetName"),
            "aria-label": say("presetName"),
        });
        const form = element(
            "form",
            {
                class: "naming",
                onsubmit: (event) => {
                    event.preventDefault();
                    const others = presets.get().filter((one) => one.name !== name.value);
                    presets.set([...others, { name: name.value, ...structuredClone(this.#settings()) }]);
                    this.#draw();
                },
            },
            name,
            element("button", { type: "submit", class: "plain" }, say("savePreset")),
        );
        this.#dialog.querySelector(".presets").append(form);
        name.focus();
    }

    #look() {
        const { models, otherModel, seesTokens, key } = this.#preferences;
        const themes = [
            ["", say("themeSystem")],
            ["light", say("themeLight")],
            ["dark", say("themeDark")],
        ];
        const languages = [
            ["", say("languageBrowser")],
            ["ko", "한국어"],
            ["en", "English"],
        ];
        const others = [["", say("noOther")], ...models().map((id) => [id, id])];
        const tinting = element("input", {
            type: "checkbox",
            id: "sees-tokens",
            checked: seesTokens.get(),
            onchange: (event) => seesTokens.set(event.target.checked),
        });
        const keyField = element("input", {
            type: "password",
            autocomplete: "off",
            value: key.get(),
            oninput: (event) => key.set(event.target.value.trim()),
        });
        return [
            labelled(say("theme"), "", select(themes, localStorage.getItem(THEME) ?? "", chooseTheme)),
            labelled(say("language"), "", select(languages, chosenLanguage, chooseLanguage)),
            labelled(
                say("otherModel"),
                say("otherModelHint"),
                select(others, otherModel.get(), (id) => otherModel.set(id)),
            ),
            labelled(say("seeTokens"), say("seeTokensHint"), tinting),
            labelled(say("apiKey"), say("apiKeyHint"), keyField),
        ];
    }
}

function chooseTheme(theme) {
    if (theme) {
        localStorage.setItem(THEME, theme);
        document.documentElement.dataset.theme = theme;
    } else {
        localStorage.removeItem(THEME);
        delete document.documentElement.dataset.theme;
    }
}

let numHints = 0;

function labelled(name, hint, field) {
    const id = `hint-${++numHints}`;
    if (hint) field.setAttribute("aria-describedby", id);
    const label = element("label", {}, element("span", { class: "name" }, name), field);
    return element("div", { class: "field" }, label, hint && element("p", { class: "hint", id }, hint));
}

function select(options, value, set) {
    const made = element(
        "select",
        { onchange: (event) => set(event.target.value) },
        options.map(([key, name]) => element("option", { value: key }, name)),
    );
    made.value = value;
    return made;
}

function same(one, other) {
    const sorted = (record) => JSON.stringify(Object.entries(record).sort());
    return sorted(one) === sorted(other);
}
