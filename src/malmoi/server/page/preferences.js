/* What the reader prefers: small values, kept as JSON in this browser's localStorage. Chats are in store.js. */

/** A value that outlives the page; `initial` until it is set, and where what is kept is broken. */
export class Preference {
    #key;
    #initial;

    constructor(name, initial) {
        this.#key = `malmoi.${name}`;
        this.#initial = initial;
    }

    get() {
        const kept = localStorage.getItem(this.#key);
        try {
            return kept === null ? this.#initial : JSON.parse(kept);
        } catch {
            return this.#initial;
        }
    }

    set(value) {
        localStorage.setItem(this.#key, JSON.stringify(value));
    }
}
