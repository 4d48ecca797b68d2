/* Where conversations are kept: in this browser (IndexedDB) only. Read next: exchange.js, how they leave it. */

const NAME = "malmoi";
const TABLE = "conversations";

/** The conversations of this browser, by id. Every method is a transaction of its own. */
export class Store {
    #database;

    constructor() {
        this.#database = new Promise((resolve, reject) => {
            const request = indexedDB.open(NAME, 1);
            request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
            request.onsuccess = () => resolve(request.result);
            request.onerror = () => reject(request.error);
        });
    }

    /** All of them, the latest first. */
    async all() {
        const conversations = await this.#run("readonly", (table) => table.getAll());
        return conversations.sort((one, other) => other.changed - one.changed);
    }

    /** Keep one, in place of what has its id. */
    async put(conversation) {
        await this.#run("readwrite", (table) => table.put(conversation));
    }

    async remove(id) {
        await this.#run("readwrite", (table) => table.delete(id));
    }

    async #run(mode, ask) {
        const table = (await this.#database).transaction(TABLE, mode).objectStore(TABLE);
        const request = ask(table);
        return new Promise((resolve, reject) => {
            request.onsuccess = () => resolve(request.result);
            request.onerror = () => reject(request.error);
        });
    }
}
