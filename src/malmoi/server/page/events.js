/* Server-sent events: bytes of a response -> the text of each event's `data`. Read next: api.js, which fetches. */

/** Cuts what arrives into events, wherever the network cut it: in a line, in a syllable, between CR and LF. */
export class EventReader {
    #decoder = new TextDecoder("utf-8", { fatal: true });
    #rest = "";
    #data = [];

    /** The data of the events that `bytes` completes, in order. Comments (`: ...`) keep a connection alive only. */
    push(bytes) {
        this.#rest += this.#decoder.decode(bytes, { stream: true });
        const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
        this.#rest = lines.pop();
        const events = [];
        for (const line of lines) {
            if (line === "" && this.#data.length > 0) {
                events.push(this.#data.join("\n"));
                this.#data = [];
            } else if (line.startsWith("data:")) {
                this.#data.push(line.slice(5).replace(/^ /, ""));
            }
        }
        return events;
    }
}
