/* What the Enter key means in a box where Korean is composed: events in, "send" or "newline" out. No DOM here.

   keydown, composition*, keyup -> COMPOSER -> {does, prevent} -> compose_box.js, which does it

With a Korean two-set keyboard (2-beolsik) the last syllable is still being composed when Enter is pressed, and there is
no candidate to choose: that one Enter means both "this syllable is done" and "send". In Japanese and Chinese, and in a
Hanja conversion, it means "this candidate", and never "send". What is being composed tells the two apart. Browsers
tell of one press in many ways, and the law is the same for all: a press does one thing, once.

   Chrome, Windows, Linux:  keydown(229) compositionupdate compositionend keyup
   Chrome, macOS:           keydown(229) compositionupdate compositionend keydown(13) keyup
   some Windows methods:    keydown(229) keydown(13) compositionend keyup
   Safari:                  compositionend keydown(229) keyup
*/

const HANGUL = /^[\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff]+$/;
const ENTER = new Set(["Enter", "NumpadEnter"]);
const LINE_BREAKS = new Set(["insertLineBreak", "insertParagraph"]);

// Keys that open a list of candidates or walk in it: the Hanja key in its names, what stands in for it, and arrows.
const CHOOSING = new Set([
    "Lang2",
    "ControlRight",
    "HanjaMode",
    "F9",
    "Tab",
    "ArrowUp",
    "ArrowDown",
    "PageUp",
    "PageDown",
]);

const PASS = Object.freeze({ does: null, prevent: false });
const SWALLOW = Object.freeze({ does: null, prevent: true });

/** Decides, event by event. Each method takes what the event of that name has and says what to do about it:
 *  `does` is "send", "newline" or null; `prevent` says that the browser must not act on the event itself. */
export class Composer {
    #composing = null; // the text under composition; null outside of one
    #ended = null; // the text of a composition that ended just now, for Safari
    #isChoosing = false; // a list of candidates is open, as far as keys tell
    #pending = null; // what the Enter of this press does when the composition ends
    #isSpent = false; // the Enter that is held down has had its meaning

    keydown({ key, code, keyCode, isComposing, repeat, shiftKey, ctrlKey, metaKey, altKey }) {
        const isEnter = key === "Enter" || ENTER.has(code);
        if (!isEnter || altKey) {
            // Option+Enter is the Hanja key of macOS
            this.#pending = this.#ended = null;
            this.#isSpent = false;
            this.#isChoosing ||=
                this.#composing !== null && (isEnter || CHOOSING.has(code) || CHOOSING.has(key));
            return PASS;
        }
        if (this.#isSpent) return SWALLOW;
        const wish = shiftKey && !ctrlKey && !metaKey ? "newline" : "send";
        if (this.#composing !== null) {
            this.#isSpent = true;
            this.#pending = HANGUL.test(this.#composing) && !this.#isChoosing ? wish : null;
            return PASS;
        }
        if (isComposing || keyCode === 229) {
            this.#isSpent = true;
            return HANGUL.test(this.#ended ?? "") ? { does: wish, prevent: true } : PASS;
        }
        if (wish === "newline") return PASS; // the browser's own, which can be undone
        this.#isSpent = true;
        return repeat ? SWALLOW : { does: "send", prevent: true };
    }

    compositionstart() {
        this.#composing = "";
        this.#pending = this.#ended = null;
        this.#isChoosing = this.#isSpent = false;
        return PASS;
    }

    compositionupdate({ data }) {
        // Committing repeats the text or empties it; another text means that the Enter did something else.
        if (data && data !== this.#composing) this.#pending = null;
        this.#composing = data || this.#composing;
        return PASS;
    }

    compositionend({ data }) {
        const does = !data || HANGUL.test(data) ? this.#pending : null; // 한 may have become 韓
        this.#ended = this.#isChoosing ? null : data;
        this.#composing = this.#pending = null;
        this.#isChoosing = false;
        return { does, prevent: false };
    }

    /** A line break that an input method inserts by itself, after a press that has had its meaning. */
    beforeinput({ inputType }) {
        return this.#isSpent && LINE_BREAKS.has(inputType) ? SWALLOW : PASS;
    }

    keyup({ key, code }) {
        if (key === "Enter" || ENTER.has(code)) this.#isSpent = false;
        this.#ended = null;
        return PASS;
    }

    blur() {
        this.#composing = this.#ended = this.#pending = null;
        this.#isChoosing = this.#isSpent = false;
        return PASS;
    }
}
