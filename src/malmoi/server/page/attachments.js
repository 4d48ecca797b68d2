/* The images and sounds that go with the next question: chosen by a button, pasted, or dropped on the page.

   file -> refusal -> read -> a preview above the box -> take(), with the question

Read first: media.js.
*/

import { at, element, iconButton, notify } from "./dom.js";
import { TYPES, read, refusal } from "./media.js";
import { mediumElement } from "./media_view.js";
import { say } from "./words.js";

/** Files that are held until they are sent. `takes(kind)`: whether the model that is asked takes images, or sounds. */
export class Attachments {
    #takes;
    #held = [];
    #reading = new Set(); // files that are held soon

    constructor(takes) {
        this.#takes = takes;
        const choosing = at("attach-file");
        at("attach").addEventListener("click", () => this.#choose(choosing));
        choosing.addEventListener("change", () => {
            this.add([...choosing.files]);
            choosing.value = "";
        });
        at("question").addEventListener("paste", (event) => {
            const { files } = event.clipboardData;
            if (files.length === 0) return;
            event.preventDefault();
            this.add([...files]);
        });
        this.#listenForDrops(at("chat-page"));
    }

    get isEmpty() {
        return this.#held.length === 0;
    }

    /** Whether a file is still being read, and a question had better wait. */
    get isReading() {
        return this.#reading.size > 0;
    }

    /** Hold these files, but for those that are refused, which is said. */
    async add(files) {
        for (const file of files) {
            const problem = refusal(file, [...this.#held, ...this.#reading], this.#takes);
            if (problem) {
                notify(problem);
                continue;
            }
            this.#reading.add(file);
            try {
                this.#held.push(await read(file));
            } catch (failure) {
                notify(say("notRead", { name: file.name, problem: failure }));
            } finally {
                this.#reading.delete(file);
            }
            this.#draw();
        }
    }

    /** What is held, which then is held no longer. */
    take() {
        const held = this.#held;
        this.#held = [];
        this.#draw();
        return held;
    }

    #choose(choosing) {
        const kinds = Object.keys(TYPES).filter(this.#takes);
        if (kinds.length === 0) {
            notify(say("noMedia"));
            return;
        }
        choosing.accept = kinds.flatMap((kind) => TYPES[kind]).join();
        choosing.click();
    }

    #listenForDrops(page) {
        const hasFiles = ({ dataTransfer }) => dataTransfer.types.includes("Files");
        page.addEventListener("dragover", (event) => {
            if (!hasFiles(event)) return;
            event.preventDefault();
            page.classList.add("dropping");
        });
        page.addEventListener("dragleave", (event) => {
            if (!page.contains(event.relatedTarget)) page.classList.remove("dropping");
        });
        page.addEventListener("drop", (event) => {
            page.classList.remove("dropping");
            if (!hasFiles(event)) return;
            event.preventDefault();
            this.add([...event.dataTransfer.files]);
        });
    }

    #draw() {
        at("attachments").replaceChildren(...this.#held.map((medium) => this.#preview(medium)));
        at("attachments").hidden = this.isEmpty;
        at("question").dispatchEvent(new CustomEvent("fit", { bubbles: true }));
    }

    #preview(medium) {
        const removing = iconButton("close", say("removeFile", { name: medium.name }), () => {
            this.#held = this.#held.filter((one) => one !== medium);
            this.#draw();
            at("question").focus();
        });
        return element("li", {}, mediumElement(medium), removing);
    }
}
