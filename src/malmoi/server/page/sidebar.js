/* The list of chats on a phone: it lies over the page, and what is beneath it cannot be reached. */

import { at } from "./dom.js";

const narrow = matchMedia("(max-width: 48rem)");

/** Have its buttons open and close it, from now on. */
export function watchSidebar() {
    at("open-sidebar").addEventListener("click", () => openSidebar("close-sidebar"));
    for (const id of ["close-sidebar", "scrim"]) at(id).addEventListener("click", closeSidebar);
    narrow.addEventListener("change", () => setSidebar(false));
    setSidebar(false);
}

/** Open it, with the focus on the element of this id. */
export function openSidebar(id) {
    setSidebar(true);
    at(id).focus();
}

/** Close it, if it is open. */
export function closeSidebar() {
    if (!document.body.classList.contains("sidebar-open")) return;
    setSidebar(false);
    at("open-sidebar").focus();
}

function setSidebar(isOpen) {
    document.body.classList.toggle("sidebar-open", isOpen);
    at("sidebar").inert = narrow.matches && !isOpen;
    at("main").inert = narrow.matches && isOpen;
    at("open-sidebar").setAttribute("aria-expanded", String(isOpen));
}
