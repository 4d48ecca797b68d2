/* Light or dark, before the first paint: the reader's choice on <html data-theme>, else style.css asks the system. */

{
    const theme = localStorage.getItem("malmoi.theme");
    if (theme) document.documentElement.dataset.theme = theme;
}
