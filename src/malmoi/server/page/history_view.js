/* The list of chats at the side: search, open, delete and take back, out to a file and in again. */

import { at, element, iconButton, notify } from "./dom.js";
import { exported, imported } from "./exchange.js";
import { finder } from "./hangul.js";
import { language, say } from "./words.js";

const day = new Intl.DateTimeFormat(language, { month: "short", day: "numeric" });

/** The list over `store`. `open(conversation)` is called for one that is chosen, `removed(conversation)` for one gone. */
export class HistoryView {
    #store;
    #open;
    #removed;
    #conversations = [];
    #gone = new Set(); // ids of what was deleted: an answer that comes too late brings nothing back
    #current = "";
    #drawn = "";

    constructor({ store, open, removed }) {
        this.#store = store;
        this.#open = open;
        this.#removed = removed;
        at("search").addEventListener("input", () => this.#draw());
        at("export").addEventListener("click", () => this.#export());
        at("import").addEventListener("click", () => at("import-file").click());
        at("import-file").addEventListener("change", () => this.#import(at("import-file")));
    }

    /** Read what is kept, and list it: the latest first. */
    async load() {
        const known = new Map(this.#conversations.map((conversation) => [conversation.id, conversation]));
        const kept = await this.#store.all();
        // What is open stays the same object, since an answer may be growing in it, and it is kept again.
        this.#conversations = kept.map((one) => {
            const mine = known.get(one.id) ?? one;
            return mine.changed >= one.changed ? mine : Object.assign(mine, one);
        });
        this.#draw();
    }

    /** Keep a conversation, and list it where its last change puts it. */
    async save(conversation) {
        if (this.#gone.has(conversation.id)) return;
        const others = this.#conversations.filter(({ id }) => id !== conversation.id);
        this.#conversations = [conversation, ...others].sort((one, other) => other.changed - one.changed);
        this.#draw();
        try {
            await this.#store.put(conversation);
        } catch (problem) {
            notify(say("notStored", { problem }));
        }
    }

    /** Mark the conversation that is open. */
    mark(conversation) {
        this.#current = conversation.id;
        this.#draw();
    }

    #draw() {
        const query = at("search").value;
        const finds = finder(query);
        const found = this.#conversations.filter(
            (conversation) => query.trim() === "" || texts(conversation).some(finds),
        );
        const drawn = JSON.stringify([
            this.#current,
            found.map(({ id, title, changed }) => [id, title, changed]),
        ]);
        // A list that is the same stays, and with it the focus in it, while an answer is kept every second.
        if (drawn !== this.#drawn) {
            at("chats").replaceChildren(...found.map((conversation) => this.#item(conversation)));
        }
        this.#drawn = drawn;
        at("no-chats").hidden = found.length > 0;
        at("no-chats").textContent = say(query.trim() ? "noneFound" : "noChats");
        at("export").disabled = this.#conversations.length === 0;
    }

    #item(conversation) {
        const { id, title, changed } = conversation;
        const isCurrent = id === this.#current;
        return element(
            "li",
            { class: isCurrent && "current" },
            element(
                "button",
                {
                    type: "button",
                    class: "title",
                    "aria-current": isCurrent && "true",
                    onclick: () => this.#open(conversation),
                },
                element("span", {}, title),
                element("time", { datetime: new Date(changed).toISOString() }, day.format(changed)),
            ),
            iconButton("delete", `${say("deleteChat")}: ${title}`, () => this.#remove(conversation)),
        );
    }

    async #remove(conversation) {
        this.#conversations = this.#conversations.filter((one) => one !== conversation);
        this.#gone.add(conversation.id);
        this.#draw();
        this.#removed(conversation);
        try {
            await this.#store.remove(conversation.id);
        } catch (problem) {
            notify(say("notDeleted", { problem }));
            return;
        }
        const takeBack = () => {
            this.#gone.delete(conversation.id);
            this.save(conversation);
        };
        notify(say("deleted"), { action: say("undo"), onclick: takeBack });
    }

    #export() {
        const file = new Blob([exported(this.#conversations)], { type: "application/json" });
        const address = URL.createObjectURL(file);
        element("a", {
            href: address,
            download: `malmoi-${new Date().toISOString().slice(0, 10)}.json`,
        }).click();
        setTimeout(() => URL.revokeObjectURL(address));
    }

    /** Take the conversations of a file in; of two with one id the later stays. */
    async #import(input) {
        const [file] = input.files;
        input.value = "";
        try {
            const read = imported(await file.text());
            const changes = new Map(this.#conversations.map(({ id, changed }) => [id, changed]));
            const newer = read.filter(({ id, changed }) => !(changes.get(id) >= changed));
            for (const conversation of newer) {
                await this.#store.put(conversation);
                this.#gone.delete(conversation.id);
            }
            await this.load();
            if (newer.some(({ id }) => id === this.#current))
                this.#open(this.#conversations.find(({ id }) => id === this.#current));
            notify(say("imported", { count: newer.length }));
        } catch (problem) {
            notify(say("notImported", { problem: problem.message }));
        }
    }
}

function texts({ title, messages }) {
    return [title, ...Object.values(messages).map(({ content }) => content)];
}
