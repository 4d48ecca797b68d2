/* Where the page begins: makes its parts and tells each of the others. Reading order from here:

   composer.js (Korean and the Enter key) -> chat.js (an answer comes in) -> conversation.js (a chat is a tree)
   markdown.js, message_view.js (how it looks) -> settings_view.js, history_view.js, tokens_page.js (the rest)
*/

import { Api } from "./api.js";
import { reason } from "./answers.js";
import { ChatPage } from "./chat.js";
import { newConversation } from "./conversation.js";
import { at, element, notify } from "./dom.js";
import { HistoryView } from "./history_view.js";
import { noSettings } from "./parameters.js";
import { Preference } from "./preferences.js";
import { SettingsView } from "./settings_view.js";
import { Store } from "./store.js";
import { TokensPage } from "./tokens_page.js";
import { fillWords, say } from "./words.js";

const key = new Preference("key", "");
const seesTokens = new Preference("tokens", false);
const lastModel = new Preference("model", "");
const otherModel = new Preference("other", ""); // asked beside the first; "" for none
const lastSettings = new Preference("settings", noSettings());

fillWords(document);

const api = new Api(() => key.get());
let models = [];

const history = new HistoryView({
    store: new Store(),
    open: (conversation) => {
        show(conversation);
        closeSidebar();
    },
    removed: (conversation) => {
        chat.stop(conversation);
        if (conversation === chat.conversation) startChat();
    },
});

const chat = new ChatPage({
    api,
    asked: () => ({
        models: [at("model").value, otherModel.get()].filter((id, index) => index === 0 || isOther(id)),
        contextLength: models.find(({ id }) => id === at("model").value)?.context_length ?? null,
        seesTokens: seesTokens.get(),
    }),
    saved: (conversation) => history.save(conversation),
    answered: () => {
        if (models.some(({ context_length: length }) => length === null)) loadModels(); // loaded now, so known
    },
});

const settings = new SettingsView(at("settings"), {
    settings: () => chat.conversation.settings,
    changed: () => {
        lastSettings.set(chat.conversation.settings);
        if (Object.keys(chat.conversation.messages).length > 0) history.save(chat.conversation);
    },
    models: () => models.map(({ id }) => id),
    otherModel,
    seesTokens,
    key,
});

const tokens = new TokensPage(at("tokens-page"), { api, models: () => models.map(({ id }) => id) });

function isOther(id) {
    return id !== at("model").value && models.some((model) => model.id === id);
}

function show(conversation) {
    location.hash = "";
    chat.open(conversation);
    history.mark(conversation);
}

function startChat() {
    show(newConversation(structuredClone(lastSettings.get())));
    closeSidebar();
}

async function loadModels() {
    try {
        models = await api.models();
        const chosen = [at("model").value, lastModel.get()].find((id) =>
            models.some((model) => model.id === id),
        );
        at("model").replaceChildren(...models.map(({ id }) => element("option", { value: id }, id)));
        at("model").value = chosen ?? models[0]?.id;
        if (models.length === 0) notify(say("noModel"));
    } catch (problem) {
        notify(reason(problem), { action: say("retry"), onclick: loadModels });
    }
    chat.draw();
    if (location.hash === "#tokens") tokens.show();
}

// Two pages, one address: #tokens is the second.
function turn() {
    const isTokens = location.hash === "#tokens";
    at("chat-page").hidden = isTokens;
    at("tokens-page").hidden = !isTokens;
    for (const link of at("pages").children) {
        const isHere = (link.hash === "#tokens") === isTokens;
        if (isHere) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
    }
    if (isTokens) tokens.show();
}

// On a phone the list of chats lies over the page, and what is beneath it cannot be reached.
const narrow = matchMedia("(max-width: 48rem)");

function setSidebar(isOpen) {
    document.body.classList.toggle("sidebar-open", isOpen);
    at("sidebar").inert = narrow.matches && !isOpen;
    at("main").inert = narrow.matches && isOpen;
    at("open-sidebar").setAttribute("aria-expanded", String(isOpen));
}

function closeSidebar() {
    if (!document.body.classList.contains("sidebar-open")) return;
    setSidebar(false);
    at("open-sidebar").focus();
}

at("open-sidebar").addEventListener("click", () => {
    setSidebar(true);
    at("close-sidebar").focus();
});
for (const id of ["close-sidebar", "scrim"]) at(id).addEventListener("click", closeSidebar);
narrow.addEventListener("change", () => setSidebar(false));
at("new-chat").addEventListener("click", startChat);
at("open-settings").addEventListener("click", () => settings.show());
at("settings").addEventListener("close", () => {
    if (models.length === 0) loadModels();
});
at("model").addEventListener("change", () => {
    lastModel.set(at("model").value);
    chat.draw();
});
addEventListener("hashchange", turn);
document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeSidebar();
    if (!(event.ctrlKey || event.metaKey) || event.isComposing) return;
    if (event.key === "k") {
        event.preventDefault();
        setSidebar(true);
        at("search").focus();
    } else if (event.shiftKey && event.code === "KeyO") {
        event.preventDefault();
        startChat();
    }
});

setSidebar(false);
const first = newConversation(structuredClone(lastSettings.get()));
chat.open(first);
history.mark(first);
turn();
loadModels();
history.load().catch((problem) => notify(say("notStored", { problem })));
