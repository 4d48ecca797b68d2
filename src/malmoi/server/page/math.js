/* Formulas: the TeX that models write -> MathML, which the browser sets by itself. No fonts, no HTML strings.

   formula("\\frac{1}{2}", true) -> <math display="block"><mfrac><mn>1</mn><mn>2</mn></mfrac></math>

A subset, by intent: fractions, roots, scripts, sums and limits, brackets that grow, matrices and cases, accents, Greek,
text. What is not in it is not guessed at: the source is shown as it is. Read first:
markdown_spans.js, which finds formulas; read next: math_symbols.js, what each command is.
*/

import {
    ACCENTS,
    ALPHABETS,
    BRACKETS,
    DOUBLE_STRUCK,
    FUNCTIONS,
    LETTERS,
    LIMITED,
    LIMIT_FUNCTIONS,
    OPERATORS,
    SPACES,
    TEXTS,
} from "./math_symbols.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";
const MAX_DEPTH = 60;
const TOKEN = /\\[a-zA-Z]+|\\[^]|\d+(?:\.\d+)?|\s+|[^]/gu;

/** The formula as an element, on a line of its own if `isBlock`. TeX that is not understood stays as it was written. */
export function formula(tex, isBlock) {
    try {
        const math = node("math", new Reader(tex, isBlock).whole());
        math.setAttribute("alttext", tex);
        if (isBlock) math.setAttribute("display", "block");
        return math;
    } catch (problem) {
        if (!(problem instanceof NotUnderstood)) throw problem;
        const code = document.createElement("code");
        code.textContent = tex;
        return code;
    }
}

class NotUnderstood extends Error {}

function node(tag, children, attributes = {}) {
    const made = document.createElementNS(MATHML, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...[children].flat());
    return made;
}

/** Reads one formula by recursive descent: a row is atoms, an atom may have scripts. */
class Reader {
    #tokens;
    #at = 0;
    #depth = 0;
    #isBlock;

    constructor(tex, isBlock) {
        this.#tokens = tex.match(TOKEN) ?? [];
        this.#isBlock = isBlock;
    }

    whole() {
        const row = this.#row(() => false);
        if (this.#at < this.#tokens.length) throw new NotUnderstood();
        return row;
    }

    get #next() {
        while (/^\s/.test(this.#tokens[this.#at] ?? "")) this.#at++;
        return this.#tokens[this.#at];
    }

    #take(expected) {
        const token = this.#next;
        if (token === undefined || (expected !== undefined && token !== expected)) throw new NotUnderstood();
        this.#at++;
        return token;
    }

    #row(isEnd) {
        const atoms = [];
        while (this.#next !== undefined && !isEnd(this.#next)) atoms.push(this.#scripted());
        return atoms;
    }

    #group() {
        if (this.#next !== "{") return this.#atom().made;
        this.#take("{");
        const row = this.#row((token) => token === "}");
        this.#take("}");
        return node("mrow", row);
    }

    /** The words between braces, as they are. */
    #words() {
        this.#take("{");
        const start = this.#at;
        while (this.#at < this.#tokens.length && this.#tokens[this.#at] !== "}") this.#at++;
        const words = this.#tokens.slice(start, this.#at).join("");
        this.#take("}");
        return words;
    }

    #scripted() {
        const { made, hasLimits } = this.#atom();
        let below = null;
        let above = null;
        for (;;) {
            if (this.#next === "_" && below === null) {
                this.#take();
                below = this.#group();
            } else if (this.#next === "^" && above === null) {
                this.#take();
                above = this.#group();
            } else if (this.#next === "'" && above === null) {
                let primes = "";
                for (; this.#next === "'"; this.#take()) primes += "′";
                above = node("mo", primes);
            } else {
                break;
            }
        }
        const isStacked = hasLimits && this.#isBlock;
        if (below && above) return node(isStacked ? "munderover" : "msubsup", [made, below, above]);
        if (below) return node(isStacked ? "munder" : "msub", [made, below]);
        if (above) return node(isStacked ? "mover" : "msup", [made, above]);
        return made;
    }

    /** {made, hasLimits}: one thing, and whether what stands at it goes over and under it. */
    #atom() {
        if (++this.#depth > MAX_DEPTH) throw new NotUnderstood();
        const atom = this.#bareAtom();
        this.#depth--;
        return atom;
    }

    #bareAtom() {
        const token = this.#next;
        if (token === "{") return { made: this.#group() };
        if (token === undefined || "}_^&#$%~".includes(token)) throw new NotUnderstood();
        this.#take();
        if (token.length > 1 && token[0] === "\\") return this.#command(token.slice(1));
        if (/\d/.test(token)) return { made: node("mn", token) };
        if (/^[a-zA-Z\p{Script=Greek}]/u.test(token)) return { made: node("mi", token) };
        if (/\p{L}/u.test(token)) return { made: node("mtext", token) };
        const isFence = "()[]|".includes(token); // of the size of a letter, unless \left says otherwise
        return { made: node("mo", token === "-" ? "−" : token, isFence ? { stretchy: "false" } : {}) };
    }

    #command(name) {
        if (LETTERS.has(name)) return { made: node("mi", LETTERS.get(name)) };
        if (OPERATORS.has(name)) return { made: node("mo", OPERATORS.get(name)) };
        if (LIMITED.has(name)) return { made: node("mo", LIMITED.get(name)), hasLimits: true };
        if (FUNCTIONS.has(name)) return { made: node("mi", name) };
        if (LIMIT_FUNCTIONS.has(name)) return { made: node("mo", name, { form: "prefix" }), hasLimits: true };
        if (SPACES.has(name)) return { made: node("mspace", [], { width: `${SPACES.get(name)}em` }) };
        if (TEXTS.has(name)) return { made: node("mtext", this.#words()) };
        if (ALPHABETS.has(name)) return { made: node("mi", this.#inAlphabet(name)) };
        if (ACCENTS.has(name)) {
            const over = node("mo", ACCENTS.get(name), { stretchy: String(/^(over|wide)/.test(name)) });
            return { made: node("mover", [this.#group(), over], { accent: "true" }) };
        }
        if ("{}%$#&_|".includes(name))
            return { made: node("mo", name === "|" ? "‖" : name, { stretchy: "false" }) };
        return { made: this.#structure(name) };
    }

    #structure(name) {
        switch (name) {
            case "frac":
            case "dfrac":
            case "tfrac":
                return node("mfrac", [this.#group(), this.#group()]);
            case "binom": {
                const parts = [this.#group(), this.#group()];
                return node("mrow", [
                    node("mo", "("),
                    node("mfrac", parts, { linethickness: "0" }),
                    node("mo", ")"),
                ]);
            }
            case "sqrt":
                return this.#root();
            case "left":
                return this.#fenced();
            case "begin":
                return this.#table();
            default:
                throw new NotUnderstood();
        }
    }

    #root() {
        if (this.#next !== "[") return node("msqrt", [this.#group()]);
        this.#take("[");
        const degree = node(
            "mrow",
            this.#row((token) => token === "]"),
        );
        this.#take("]");
        return node("mroot", [this.#group(), degree]);
    }

    #fenced() {
        const open = this.#fence();
        const row = this.#row((token) => token === "\\right");
        this.#take("\\right");
        return node("mrow", [...open, ...row, ...this.#fence()]);
    }

    #fence() {
        const token = this.#take();
        if (token === ".") return [];
        const name = token.slice(1);
        const sign = token[0] !== "\\" ? token : (OPERATORS.get(name) ?? (name === "|" ? "‖" : name));
        if ([...sign].length !== 1) throw new NotUnderstood();
        return [node("mo", sign, { stretchy: "true" })];
    }

    #table() {
        const name = this.#words();
        if (!BRACKETS.has(name)) throw new NotUnderstood();
        if (name === "array") this.#words(); // how its columns are set
        const rows = [[]];
        for (;;) {
            const cell = this.#row((token) => token === "&" || token === "\\\\" || token === "\\end");
            rows.at(-1).push(node("mtd", cell));
            const token = this.#take();
            if (token === "\\end") break;
            if (token === "\\\\") rows.push([]);
        }
        if (this.#words() !== name) throw new NotUnderstood();
        const [open, close] = BRACKETS.get(name);
        const isAligned = /^(align|cases)/.test(name);
        const filled = rows.filter((row) => row.length > 1 || row[0].childNodes.length > 0);
        const table = node(
            "mtable",
            filled.map((row) => node("mtr", row)),
            isAligned ? { class: "aligned" } : {},
        );
        const fences = [open, close].map((sign) => (sign ? [node("mo", sign, { stretchy: "true" })] : []));
        return node("mrow", [...fences[0], table, ...fences[1]]);
    }

    #inAlphabet(name) {
        const [capitals, smalls] = ALPHABETS.get(name);
        const words = this.#next === "{" ? this.#words() : this.#take();
        return [...words]
            .map((letter) => {
                if (name === "mathbb" && DOUBLE_STRUCK.has(letter)) return DOUBLE_STRUCK.get(letter);
                if (/[A-Z]/.test(letter)) return String.fromCodePoint(capitals + letter.codePointAt(0) - 65);
                if (/[a-z]/.test(letter)) return String.fromCodePoint(smalls + letter.codePointAt(0) - 97);
                return letter;
            })
            .join("");
    }
}
