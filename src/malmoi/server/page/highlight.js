/* Code -> its comments, strings, numbers and words, by what most languages share. No grammar: a tint to read by. */

const WORDS =
    "abstract and as assert async await break case catch class const continue def default del do elif else end enum " +
    "except export extends extern final finally fn for from func function global if impl implements import in " +
    "interface is lambda let local loop match mod module mut namespace new nil none None not null or override package " +
    "pass private protected pub public raise return self static struct super switch then this throw trait true True " +
    "false False try type typedef typeof undefined union unless until use using var virtual void where while with yield";
const SQL =
    "select from where insert into values update set delete create table join left right inner outer on group " +
    "by order having limit and or not null as distinct union case when then else end primary key drop alter index";

const HASH = "#.*";
const SLASHES = "\\/\\/.*|\\/\\*[^]*?(?:\\*\\/|$)";
const DASHES = "--.*";
const STRINGS = `"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:[^"\\\\\\n]|\\\\.)*"?|'(?:[^'\\\\\\n]|\\\\.)*'?|\`(?:[^\`\\\\]|\\\\.)*\`?`;
const NUMBER = "\\b(?:0[xX][\\da-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)\\b";

const COMMENTS = new Map(
    [
        [
            "python py bash sh shell zsh console yaml yml toml ini ruby rb r perl dockerfile makefile elixir julia",
            HASH,
        ],
        [
            "js javascript jsx ts typescript tsx json java c h cpp c++ cc cs csharp go rust rs kotlin swift scala dart php css",
            SLASHES,
        ],
        ["sql lua haskell hs ada", DASHES],
    ].flatMap(([names, comment]) => names.split(" ").map((name) => [name, comment])),
);

/** `code` in pieces that make it up: strings, and {kind: "comment" | "string" | "number" | "word", text}. Code of a
 *  language that is not known is one piece. */
export function highlighted(code, language) {
    const name = language.toLowerCase();
    const comment = COMMENTS.get(name);
    if (comment === undefined) return [code];
    const words = (name === "sql" ? SQL : WORDS).split(" ").join("|");
    const flags = name === "sql" ? "gi" : "g";
    const pattern = `(?<comment>${comment})|(?<string>${STRINGS})|(?<number>${NUMBER})|(?<word>\\b(?:${words})\\b)`;
    const pieces = [];
    let end = 0;
    for (const match of code.matchAll(new RegExp(pattern, flags))) {
        const [kind] = Object.entries(match.groups).find(([, text]) => text !== undefined);
        pieces.push(code.slice(end, match.index), { kind, text: match[0] });
        end = match.index + match[0].length;
    }
    return [...pieces, code.slice(end)].filter((piece) => piece !== "");
}
