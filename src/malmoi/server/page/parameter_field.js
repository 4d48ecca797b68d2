/* The row of one parameter in the settings: checked as one types, kept only while it means something. Read first:
   parameters.js, parameter_text.js. */

import { element } from "./dom.js";
import { area, labelled, numberBox, select, tick } from "./fields.js";
import { parse, refusal, unparse } from "./parameter_text.js";
import { say, sayIn } from "./words.js";

/** The row of `parameter`, which edits `values` (mutates it) and then calls `changed()`. */
export function parameterField(parameter, values, changed) {
    const { name, label, about } = parameter;
    const problem = element("p", { class: "problem", role: "alert" });
    const keep = (value) => {
        if (value === undefined) delete values[name];
        else values[name] = value;
        changed();
    };
    const control = controlOf(parameter, values[name], keep, (text) => {
        try {
            const value = parse(parameter, text);
            const other = parameter.unless?.find((one) => one in values);
            if (value !== undefined && other) throw refusal("notWith", { name: other });
            problem.textContent = "";
            control.removeAttribute("aria-invalid");
            keep(value);
        } catch (refused) {
            problem.textContent = say(refused.message, refused.values);
            control.setAttribute("aria-invalid", "true");
        }
    });
    const row = labelled(element("code", {}, label ?? name), sayIn(about), control);
    row.append(problem);
    return row;
}

function controlOf(parameter, value, keep, type) {
    const { kind, step, options } = parameter;
    if (kind === "flag") return tick(value, (isTicked) => keep(isTicked || undefined));
    const text = unparse(parameter, value);
    if (kind === "number")
        return numberBox(text, type, { isWhole: step === 1, placeholder: say("modelDefault") });
    if (kind !== "options") return area(text, type);
    const named = options.map(([, names], index) => [String(index), sayIn(names)]);
    return select([["", say("modelDefault")], ...named], text, type);
}
