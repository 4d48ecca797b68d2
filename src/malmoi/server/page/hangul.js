/* How Korean is searched: 한국 is found by 한국, by 하, and by its initial consonants, ㅎㄱ. */

const INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ";
const FIRST = 0xac00;
const LAST = 0xd7a3;
const VOWELS_TIMES_FINALS = 21 * 28;
const FINALS = 28;

/** A test whether a text holds `query`: letter case and NFC or NFD do not matter, ㅎ stands for any syllable that begins
 *  with it, and an open syllable for any that it is the beginning of (하 finds 한, as when it is being typed). */
export function finder(query) {
    const pattern = [...folded(query.trim())].map(patternOf).join("");
    const expression = new RegExp(pattern, "u");
    return (text) => expression.test(folded(text));
}

function folded(text) {
    return text.normalize("NFC").toLowerCase();
}

function patternOf(character) {
    const initial = INITIALS.indexOf(character);
    if (initial >= 0) {
        const start = FIRST + initial * VOWELS_TIMES_FINALS;
        return `[${character}${range(start, start + VOWELS_TIMES_FINALS - 1)}]`;
    }
    const code = character.codePointAt(0);
    if (code >= FIRST && code <= LAST && (code - FIRST) % FINALS === 0)
        return `[${range(code, code + FINALS - 1)}]`;
    return character.replace(/[\\^$.*+?()[\]{}|/]/u, "\\$&");
}

function range(start, end) {
    return `${String.fromCodePoint(start)}-${String.fromCodePoint(end)}`;
}
