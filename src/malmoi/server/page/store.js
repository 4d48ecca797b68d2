/* Where conversations are kept: in this browser (IndexedDB) only. Read next: exchange.js, how they leave it. */

const NAME = "malmoi";
const TABLE = "conversations";

/** The conversations of this browser, by id. Every method is a transaction of its own. */
export class Store {
    #opened = null; // a promise of the database

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
        const transaction = (await this.#database()).transaction(TABLE, mode);
        const request = ask(transaction.objectStore(TABLE));
        // A request that has succeeded may still be taken back, where the disk is full.
        return new Promise((resolve, reject) => {
            transaction.oncomplete = () => resolve(request.result);
            transaction.onabort = () => reject(transaction.error ?? request.error);
        });
    }

    /** The database, opened anew where the browser has closed it, since the reader has cleared it for instance. */
    #database() {
        const forget = () => (this.#opened = null);
        this.#opened ??= new Promise((resolve, reject) => {
            const request = indexedDB.open(NAME, 1);
            request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
            request.onsuccess = () => {
                const database = request.result;
                database.onclose = forget;
                database.onversionchange = () => {
                    database.close(); // another page waits for it
                    forget();
                };
                resolve(database);
            };
            request.onerror = () => {
                forget();
                reject(request.error);
            };
        });
        return this.#opened;
    }
}
