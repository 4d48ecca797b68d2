/* Presets: settings by a name, those that come with the page and the reader's own. Read first: settings_view.js. */

import { element } from "./dom.js";
import { labelled, plainButton, select } from "./fields.js";
import { Preference } from "./preferences.js";
import { PRESETS } from "./presets.js";
import { say, sayIn } from "./words.js";

const presets = new Preference("presets", []); // [{name, system, parameters}]

/** The row of presets over `settings`. `apply(preset)` is called for one that is chosen, `changed()` when there is one
 *  more, or one less. */
export function presetsRow(settings, { apply, changed }) {
    const own = presets.get();
    const all = [...PRESETS.map(({ name, parameters }) => ({ name: sayIn(name), parameters })), ...own];
    const held = all.findIndex((preset) => isHeld(preset, settings));
    const options = [["", say("presetNone")], ...all.map(({ name }, index) => [String(index), name])];
    const choosing = select(options, held < 0 ? "" : String(held), (index) => {
        if (index !== "") apply(all[Number(index)]);
    });
    const remove = () => {
        presets.set(own.filter((_, index) => index !== held - PRESETS.length));
        changed();
    };
    const row = element(
        "div",
        { class: "presets" },
        labelled(say("preset"), "", choosing),
        plainButton(say("savePreset"), () => askName(row, settings, changed)),
        held >= PRESETS.length && plainButton(say("deletePreset"), remove),
        plainButton(say("reset"), () => apply({ parameters: {} })),
    );
    return row;
}

/** Ask in the row under which name the settings are to be kept. */
function askName(row, settings, changed) {
    const name = element("input", {
        type: "text",
        required: true,
        maxlength: 40,
        placeholder: say("presetName"),
        "aria-label": say("presetName"),
    });
    const onsubmit = (event) => {
        event.preventDefault();
        const others = presets.get().filter((one) => one.name !== name.value);
        presets.set([...others, { name: name.value, ...structuredClone(settings) }]);
        changed();
    };
    const saving = element("button", { type: "submit", class: "plain" }, say("savePreset"));
    row.append(element("form", { class: "naming", onsubmit }, name, saving));
    name.focus();
}

function isHeld({ system, parameters }, settings) {
    const sorted = (record) => JSON.stringify(Object.entries(record).sort());
    return (
        sorted(parameters) === sorted(settings.parameters) &&
        (system === undefined || system === settings.system)
    );
}
