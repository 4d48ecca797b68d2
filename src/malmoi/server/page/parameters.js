/* How the next answer is made: every parameter of the API with its one line of explanation.

   settings = {system: "", parameters: {temperature: 0.7, ...}}   what is not in it is the model's own default

The names are the API's. Read next: sampling_parameters.js and form_parameters.js, the two halves of the list;
parameter_text.js, what is typed for each kind; settings_view.js, which makes fields of all.
*/

import { FORMS } from "./form_parameters.js";
import { SAMPLING } from "./sampling_parameters.js";

/** `kind` is number, flag, text, lines, biases, schema, tools, or options, which are [value, [Korean, English]]; a number
 *  has its range, and `step` 1 means whole ones. `needs(model)`: only for models of which it is true; `unless`: not with
 *  these. `group`: where it stands; without one, first. */
export const PARAMETERS = [...SAMPLING, ...FORMS];

/** Nothing said: the model as its own files have it. */
export function noSettings() {
    return { system: "", parameters: {} };
}

/** Those of `parameters` that `model` takes, undefined for one that is not known: what is asked of it. */
export function parametersFor(model, parameters) {
    const isTaken = ({ name, needs }) => name in parameters && (needs === undefined || needs(model));
    const taken = PARAMETERS.filter(isTaken).map(({ name }) => [name, structuredClone(parameters[name])]);
    return Object.fromEntries(taken);
}
