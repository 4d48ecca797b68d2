/* The API on a page, at /docs: what /openapi.json says of every address, its parameters and the objects in them. */

import { at, element } from "./dom.js";
import { Preference } from "./preferences.js";
import { language, sayIn } from "./words.js";

const WORDS = {
    home: ["말모이", "Malmoi"],
    filter: ["주소나 매개변수 찾기", "Find a path or a parameter"],
    none: ["찾는 것이 없습니다.", "Nothing has these words."],
    required: ["필수", "required"],
    otherwise: ["없으면", "if not given:"],
    form: [
        "파일과 함께 폼으로 보냅니다 (multipart/form-data).",
        "Sent as a form with a file (multipart/form-data).",
    ],
    introduction: [
        "표에 없는 매개변수는 무시하지 않고, 그 이름을 밝힌 오류로 답합니다.",
        "A parameter that is in no table is not ignored: the answer is an error that names it.",
    ],
    needsKey: ["이 서버에는 키가 필요합니다.", "This server asks for a key."],
    key: ["키", "Key"],
    show: ["보기", "Show"],
    unreachable: ["서버에 닿을 수 없습니다.", "The server cannot be reached."],
};
const say = (word) => sayIn(WORDS[word]);
const key = new Preference("key", ""); // the same as the chat page's

/** What a schema takes, in a few words: "string or list of integer". */
function kindOf(schema, schemas) {
    if (schema.$ref) return schemas[nameOf(schema.$ref)]?.type ?? "object";
    if (schema.anyOf) {
        const kinds = schema.anyOf.filter(({ type }) => type !== "null").map((one) => kindOf(one, schemas));
        return [...new Set(kinds)].join(" or ");
    }
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
    if ("const" in schema) return JSON.stringify(schema.const);
    if (schema.type === "array") return `list of ${kindOf(schema.items ?? {}, schemas)}`;
    return schema.contentMediaType ? "file" : (schema.type ?? "anything");
}

/** The names of the schemas that a schema is made of. */
function* within(schema) {
    if (schema.$ref) yield nameOf(schema.$ref);
    for (const inner of [...(schema.anyOf ?? []), ...(schema.items ? [schema.items] : [])])
        yield* within(inner);
}

const nameOf = (reference) => reference.split("/").pop();

/** A schema as tables: its own, and one for each object in it, under the names that lead there. */
function* tables(schema, schemas, path = "", above = []) {
    const fields = Object.entries(schema.properties ?? {});
    if (!fields.length) return;
    if (path) yield element("h3", {}, path);
    yield element(
        "table",
        {},
        element(
            "tbody",
            {},
            fields.map(([name, field]) => row(name, field, schema, schemas)),
        ),
    );
    for (const [name, field] of fields) {
        for (const inner of within(field)) {
            if (above.includes(inner)) continue;
            yield* tables(schemas[inner], schemas, path ? `${path}.${name}` : name, [...above, inner]);
        }
    }
}

function row(name, field, schema, schemas) {
    const isRequired = schema.required?.includes(name);
    const preset = field.default;
    const hasDefault =
        !isRequired && ["string", "number", "boolean"].includes(typeof preset) && preset !== "";
    return element(
        "tr",
        {},
        element(
            "td",
            {},
            name,
            isRequired && " ",
            isRequired && element("span", { class: "required" }, say("required")),
        ),
        element("td", {}, kindOf(field, schemas)),
        element(
            "td",
            {},
            field.description ?? "",
            hasDefault &&
                element("span", { class: "default" }, ` ${say("otherwise")} ${JSON.stringify(preset)}`),
        ),
    );
}

/** An endpoint as a section, and the line of the list that leads to it. */
function endpoint(method, path, told, schemas) {
    const id = `${method} ${path}`;
    const [[type, { schema }] = ["", {}]] = Object.entries(told.requestBody?.content ?? {});
    const body = schema?.$ref ? schemas[nameOf(schema.$ref)] : schema;
    const badge = () => element("span", { class: `method ${method}` }, method);
    const section = element(
        "section",
        { id },
        element("h2", {}, badge(), path),
        element("p", {}, told.description ?? ""),
        type.startsWith("multipart") && element("p", { class: "hint" }, say("form")),
        [...tables(body ?? {}, schemas)],
    );
    const link = element("li", {}, element("a", { href: `#${encodeURIComponent(id)}` }, badge(), path));
    return { section, link, words: section.textContent.toLowerCase() };
}

function show({ paths, components }) {
    const endpoints = Object.entries(paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, told]) =>
            endpoint(method.toUpperCase(), path, told, components.schemas),
        ),
    );
    const none = element("p", { hidden: true }, say("none"));
    at("paths").replaceChildren(...endpoints.map(({ link }) => link));
    at("endpoints").replaceChildren(
        element("p", {}, say("introduction")),
        none,
        ...endpoints.map(({ section }) => section),
    );
    at("filter").addEventListener("input", (event) => {
        const sought = event.target.value.trim().toLowerCase();
        for (const { section, link, words } of endpoints)
            section.hidden = link.hidden = !words.includes(sought);
        none.hidden = endpoints.some(({ section }) => !section.hidden);
    });
    document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

function askForKey() {
    const field = element("input", {
        type: "password",
        autocomplete: "off",
        "aria-label": say("key"),
        placeholder: say("key"),
    });
    const onsubmit = (event) => {
        event.preventDefault();
        key.set(field.value.trim());
        load();
    };
    const form = element(
        "form",
        { id: "key-form", onsubmit },
        field,
        element("button", { class: "strong" }, say("show")),
    );
    at("endpoints").replaceChildren(element("p", {}, say("needsKey")), form);
    field.focus();
}

async function load() {
    const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
    const response = await fetch("/openapi.json", { headers }).catch(() => null);
    if (response?.ok) show(await response.json());
    else if (response?.status === 401) askForKey();
    else at("endpoints").replaceChildren(element("p", { class: "problem" }, say("unreachable")));
}

document.documentElement.lang = language;
at("home").textContent = say("home");
at("filter").placeholder = say("filter");
at("filter").setAttribute("aria-label", say("filter"));
load();
