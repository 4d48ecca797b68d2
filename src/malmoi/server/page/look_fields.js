/* The settings of this browser: light or dark, the language, what is shown of an answer, the key. */

import { element } from "./dom.js";
import { labelled, select, tick } from "./fields.js";
import { keep, kept } from "./preferences.js";
import { chooseLanguage, chosenLanguage, say } from "./words.js";

const THEME = "malmoi.theme"; // plain text, since theme.js reads it before anything else is there

/** The rows of the settings. `models` are those to compare with; the others are Preferences. */
export function lookFields({ models, otherModel, seesTokens, key }) {
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
    const others = [["", say("noOther")], ...models.map(({ id }) => [id, id])];
    const keyField = element("input", {
        type: "password",
        autocomplete: "off",
        value: key.get(),
        oninput: (event) => key.set(event.target.value.trim()),
    });
    const seeing = tick(seesTokens.get(), (isTicked) => seesTokens.set(isTicked), { id: "sees-tokens" });
    return [
        labelled(say("theme"), "", select(themes, kept(THEME) ?? "", chooseTheme)),
        labelled(say("language"), "", select(languages, chosenLanguage, chooseLanguage)),
        labelled(
            say("otherModel"),
            say("otherModelHint"),
            select(others, otherModel.get(), (id) => otherModel.set(id)),
        ),
        labelled(say("seeTokens"), say("seeTokensHint"), seeing),
        labelled(say("apiKey"), say("apiKeyHint"), keyField),
    ];
}

function chooseTheme(theme) {
    keep(THEME, theme || null);
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
}
