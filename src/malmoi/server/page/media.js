/* Images and sounds of a message: which files are taken, and what is kept of one. Read next: attachments.js.

   {kind: "image" | "audio", name, type, size, url: "data:image/png;base64,..."}

A file is sent and kept as it is, not made smaller: what the model sees is what was given. It lies in the conversation,
in IndexedDB, and so in an export too.
*/

import { byteSize, say } from "./words.js";

/** What the server reads of each medium. */
export const TYPES = {
    image: ["image/png", "image/jpeg", "image/webp"],
    audio: ["audio/wav", "audio/x-wav", "audio/flac", "audio/x-flac", "audio/ogg"],
};
const MAX_BYTES = 8 * 2 ** 20; // of one file
const MAX_SUM = 20 * 2 ** 20; // of a message: base64 makes 27 MiB of it, and the server takes 32

/** The medium of a file, undefined if it is none that is read. */
function mediumOf(type) {
    return Object.keys(TYPES).find((kind) => TYPES[kind].includes(type));
}

/** Why `file` cannot be added to `others`, in words; "" if it can. `takes(kind)`: what the model takes. */
export function refusal(file, others, takes) {
    const kind = mediumOf(file.type);
    if (kind === undefined) return say("notMedium", { name: file.name });
    if (!takes(kind)) return say(kind === "image" ? "noImages" : "noSounds");
    const name = file.name;
    if (file.size > MAX_BYTES) return say("fileTooLarge", { name, limit: byteSize(MAX_BYTES) });
    const sum = others.reduce((bytes, one) => bytes + one.size, file.size);
    return sum > MAX_SUM ? say("filesTooLarge", { limit: byteSize(MAX_SUM) }) : "";
}

/** What is kept of a file, when it was read. Rejects if it cannot be. */
export function read(file) {
    return new Promise((resolve, reject) => {
        const reader = new FileReader();
        const { name, type, size } = file;
        reader.onload = () => resolve({ kind: mediumOf(type), name, type, size, url: reader.result });
        reader.onerror = () => reject(reader.error);
        reader.readAsDataURL(file);
    });
}
