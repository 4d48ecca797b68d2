/* What the reader prefers: small values, kept in this browser's localStorage. Chats are in store.js. */

const held = new Map(); // what the browser does not keep: for as long as the page is open

/** The text that is kept under `key`; null if there is none. */
export function kept(key) {
    if (held.has(key)) return held.get(key);
    try {
        return localStorage.getItem(key);
    } catch {
        return null; // some browsers deny the page its storage
    }
}

/** Keep `text` under `key`, null for none: for as long as the page is open where the browser denies it, or is full. */
export function keep(key, text) {
    try {
        if (text === null) localStorage.removeItem(key);
        else localStorage.setItem(key, text);
        held.delete(key);
    } catch {
        held.set(key, text);
    }
}

/** A value that outlives the page, as JSON; `initial` until it is set, and where what is kept is broken. */
export class Preference {
    #key;
    #initial;

    constructor(name, initial) {
        this.#key = `malmoi.${name}`;
        this.#initial = initial;
    }

    get() {
        const text = kept(this.#key);
        try {
            return text === null ? this.#initial : JSON.parse(text);
        } catch {
            return this.#initial;
        }
    }

    set(value) {
        keep(this.#key, JSON.stringify(value));
    }
}
