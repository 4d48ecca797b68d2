/* Where the page begins: makes its parts and tells each of the others. Reading order from here:

   composer.js (Korean and the Enter key) -> chat.js (an answer comes in) -> conversation.js (a chat is a tree)
   markdown.js, message_view.js (how it looks) -> models.js, settings_view.js, history_view.js, tokens_page.js (the rest)
*/

import { Api } from "./api.js";
import { reason } from "./answers.js";
import { BillView } from "./bill_view.js";
import { ChatPage } from "./chat.js";
import { newConversation } from "./conversation.js";
import { at, notify } from "./dom.js";
import { HistoryView } from "./history_view.js";
import { canChat, modelOf } from "./models.js";
import { drawModels, modelOptions } from "./models_view.js";
import { noSettings } from "./parameters.js";
import { Preference } from "./preferences.js";
import { SettingsView } from "./settings_view.js";
import { closeSidebar, openSidebar, watchSidebar } from "./sidebar.js";
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

const bill = new BillView(modelCalled);

const chat = new ChatPage({
    api,
    asked: () => ({ models: askedModels(), seesTokens: seesTokens.get() }),
    saved: (conversation) => history.save(conversation),
    drawn: (conversation, shown) => bill.draw(conversation, shown, askedModels()[0].contextLength),
    answered: () => {
        if (models.some(({ contextLength }) => contextLength === null)) loadModels(); // loaded now, so known
    },
});

const settings = new SettingsView(at("settings"), {
    settings: () => chat.conversation.settings,
    changed: () => {
        lastSettings.set(chat.conversation.settings);
        if (Object.keys(chat.conversation.messages).length > 0) history.save(chat.conversation);
    },
    models: () => models.filter(canChat),
    asked: askedModels,
    priced: () => {
        drawModelList();
        chat.draw();
    },
    otherModel,
    seesTokens,
    key,
});

const tokens = new TokensPage(at("tokens-page"), { api, models: () => models });

function modelCalled(name) {
    return models.find(({ id }) => id === name);
}

/** The model that is chosen, and the one that is to be compared with it, if there is one. */
function askedModels() {
    const id = at("model").value;
    const others = models.filter(
        (model) => model.id === otherModel.get() && model.id !== id && canChat(model),
    );
    return [modelCalled(id) ?? modelOf({ id }), ...others];
}

function chooseModel(id) {
    at("model").value = id;
    lastModel.set(id);
    chat.draw();
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

function drawModelList() {
    const chatting = models.filter(canChat);
    const chosen = [at("model").value, lastModel.get()].find((id) => chatting.some((one) => one.id === id));
    at("model").replaceChildren(...modelOptions(chatting));
    at("model").value = chosen ?? chatting[0]?.id;
    drawModels(chatting, chooseModel);
}

async function loadModels() {
    try {
        const known = JSON.stringify(models);
        models = await api.models();
        if (!models.some(canChat)) notify(say("noModel"));
        if (JSON.stringify(models) !== known) drawModelList(); // else it stays, and with it the focus in it
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

at("new-chat").addEventListener("click", startChat);
at("open-settings").addEventListener("click", () => settings.show());
at("settings").addEventListener("close", () => {
    if (models.length === 0) loadModels();
});
at("model").addEventListener("change", () => chooseModel(at("model").value));
at("models").addEventListener("beforetoggle", ({ newState }) => {
    if (newState === "open") loadModels(); // another may have been loaded since, or unloaded
});
addEventListener("hashchange", turn);
document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeSidebar();
    if (!(event.ctrlKey || event.metaKey) || event.isComposing) return;
    // By its place: with a Korean layout the key is ㅏ.
    if (event.code === "KeyK" && !event.shiftKey && !event.altKey) {
        event.preventDefault();
        openSidebar("search");
    } else if (event.shiftKey && event.code === "KeyO") {
        event.preventDefault();
        startChat();
    }
});

watchSidebar();
const first = newConversation(structuredClone(lastSettings.get()));
chat.open(first);
history.mark(first);
turn();
loadModels();
history.load().catch((problem) => notify(say("notStored", { problem })));
