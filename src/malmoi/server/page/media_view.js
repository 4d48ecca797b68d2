/* An image or a sound on the page. Read first: media.js. */

import { element } from "./dom.js";
import { byteSize, say } from "./words.js";

const addresses = new WeakMap(); // of sounds, so that one that is drawn again is not held twice

/** The element of a file: an image, or a player. */
export function mediumElement(medium) {
    const { kind, name, size, url } = medium;
    if (kind === "image") return element("img", { src: url, alt: say("imageCalled", { name }), title: name });
    const player = element("audio", {
        controls: true,
        src: addressOf(medium),
        "aria-label": say("soundCalled", { name }),
    });
    return element("span", { class: "sound" }, `${name} · ${byteSize(size)}`, player);
}

/** The Content-Security-Policy lets a player have blobs only. */
function addressOf(medium) {
    if (!addresses.has(medium)) {
        const blob = new Blob([bytesOf(medium.url)], { type: medium.type });
        addresses.set(medium, URL.createObjectURL(blob));
    }
    return addresses.get(medium);
}

function bytesOf(url) {
    return Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (character) => character.charCodeAt(0));
}
