/* Light or dark, before the first paint: the reader's choice on <html data-theme>, else style.css asks the system. */

try {
    const theme = localStorage.getItem("malmoi.theme");
    if (theme) document.documentElement.dataset.theme = theme;
} catch {
    // A browser that denies the page its storage: the system's.
}
