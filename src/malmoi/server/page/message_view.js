/* A message on the page: its text, and beneath it what can be done with it. Read next: chat.js, which does it. */

import { ComposeBox } from "./compose_box.js";
import { copyButton, element, icon, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown_view.js";
import { TokenView } from "./token_view.js";
import { number, say } from "./words.js";

/** The element of one message. `acts` are what its buttons call: edit(message, text), regenerate(message),
 *  step(message, by), take(message), layOut(message, isBeside). `update` draws it anew: cheap enough for every piece of
 *  an answer. */
export class MessageView {
    #message;
    #acts;
    #text;
    #body = element("div", { class: "body" });
    #thoughts = element("p", {});
    #details = element(
        "details",
        { class: "thoughts" },
        element("summary", {}, say("thoughts")),
        this.#thoughts,
    );
    #status = element("p", { class: "status" });
    #foot = element("footer");
    #drawn = "";

    constructor(message, acts, popover) {
        this.#message = message;
        this.#acts = acts;
        const isTokens = Boolean(message.tokens);
        this.#text = isTokens ? new TokenView(this.#body, popover) : new MarkdownView(this.#body);
        this.#body.classList.toggle("tokens", isTokens);
        const name = say(message.role === "user" ? "you" : "assistant");
        const heading = element(
            "h2",
            { class: "unseen" },
            message.model ? `${name}: ${message.model}` : name,
        );
        this.element = element(
            "article",
            { class: `message ${message.role}` },
            heading,
            this.#body,
            this.#status,
            this.#foot,
        );
    }

    /** `place` = {index, count} among the branches of this fork; `isOpen`: its text is still arriving; `beside`: null
     *  if it is shown alone, "chosen" or "other" if side by side with the other branches. */
    update({ place, isOpen, beside }) {
        const { role, content, reasoning, tokens, failure, finish } = this.#message;
        const drawn = JSON.stringify([place, isOpen, beside, failure, finish]);
        if (drawn === this.#drawn && !isOpen) return;
        this.#drawn = drawn;
        if (role === "user") this.#body.textContent = content;
        else if (tokens) this.#text.update(tokens, content, isOpen);
        else this.#text.update(content, isOpen);
        if (reasoning) {
            this.#thoughts.textContent = reasoning;
            if (!this.#details.parentNode) this.#body.before(this.#details);
        }
        this.element.classList.toggle("open", isOpen);
        this.element.classList.toggle("other", beside === "other");
        this.element.ariaBusy = String(isOpen);
        this.#status.replaceChildren(...(isOpen ? [] : this.#statusParts()));
        this.#status.hidden = this.#status.childNodes.length === 0;
        if (isOpen) this.#foot.replaceChildren();
        else this.#foot.replaceChildren(...this.#footParts(place, beside));
    }

    #statusParts() {
        const { role, failure, content, finish } = this.#message;
        if (failure !== undefined) {
            const retry = element(
                "button",
                { type: "button", class: "plain", onclick: () => this.#acts.regenerate(this.#message) },
                say("retry"),
            );
            return [
                element("span", { role: "alert" }, `${say(content ? "failedMidway" : "failed")} ${failure}`),
                retry,
            ];
        }
        if (finish === "length") return [say("cutShort")];
        const isCut = role === "assistant" && (finish === "stopped" || finish === undefined);
        return isCut ? [say("stopped")] : []; // without a reason where the page was left in mid-answer
    }

    #footParts({ index, count }, beside) {
        const message = this.#message;
        const branches =
            count > 1 &&
            beside === null &&
            element(
                "span",
                { class: "branches", role: "group", "aria-label": say("branch", { index, count }) },
                iconButton("back", say("previousBranch"), () => this.#acts.step(message, -1), {
                    disabled: index === 1,
                }),
                `${index}/${count}`,
                iconButton("forth", say("nextBranch"), () => this.#acts.step(message, 1), {
                    disabled: index === count,
                }),
            );
        const own =
            message.role === "user"
                ? iconButton("edit", say("edit"), () => this.#edit())
                : iconButton("again", say("regenerate"), () => this.#acts.regenerate(message));
        const copying =
            message.content && copyButton(say("copyMessage"), say("copied"), () => message.content);
        const isFork = message.role === "assistant" && count > 1;
        const laying =
            isFork &&
            iconButton("columns", say(beside ? "showOne" : "showBeside"), () =>
                this.#acts.layOut(message, beside === null),
            );
        const taking =
            beside === "other" &&
            element(
                "button",
                { type: "button", class: "plain take", onclick: () => this.#acts.take(message) },
                say("takeBranch"),
            );
        const stats = element("span", { class: "stats" }, this.#stats());
        return [branches, copying, own, laying, taking, stats].filter(Boolean);
    }

    #stats() {
        const { model, parameters, usage, timings } = this.#message;
        return [
            model,
            ...Object.entries(parameters ?? {}).map(([name, value]) => `${name}=${JSON.stringify(value)}`),
            usage && say("numTokens", { count: number(usage.completion_tokens) }),
            timings && say("speed", { speed: number(timings.tokens_per_second, 1) }),
            timings && say("firstToken", { seconds: number(timings.first_token_s, 2) }),
        ]
            .filter(Boolean)
            .join(" · ");
    }

    #edit() {
        const textarea = element("textarea", { rows: 1, "aria-label": say("edit") });
        const close = () => {
            form.replaceWith(this.#body);
            this.#foot.hidden = false;
        };
        const cancel = () => {
            close();
            this.#foot.querySelector("button:last-of-type").focus();
        };
        const box = new ComposeBox(textarea, (text) => {
            const isSent = this.#acts.edit(this.#message, text);
            if (isSent) close();
            return isSent;
        });
        const form = element(
            "form",
            {
                class: "edit",
                onsubmit: (event) => {
                    event.preventDefault();
                    box.send();
                },
                onkeydown: (event) => {
                    if (event.key === "Escape" && !event.isComposing) {
                        event.stopPropagation();
                        cancel();
                    }
                },
            },
            textarea,
            element(
                "div",
                {},
                element("button", { type: "button", class: "plain", onclick: cancel }, say("cancel")),
                element("button", { type: "submit", class: "strong" }, icon("send"), say("send")),
            ),
        );
        this.#body.replaceWith(form);
        this.#foot.hidden = true;
        box.text = this.#message.content;
        textarea.focus();
    }
}
