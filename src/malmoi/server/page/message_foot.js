/* What stands under a message: its branches, what can be done with it, who spoke, how fast. Read first:
   message_view.js. */

import { copyButton, element, iconButton } from "./dom.js";
import { plainButton } from "./fields.js";
import { number, say } from "./words.js";

/** The parts of the foot of `message`, at `place` = {index, count} of its fork; `beside`: null, "chosen" or "other".
 *  `acts` are those of message_view.js, and `edit()`. */
export function footParts(message, { place, beside }, acts) {
    const { role, content } = message;
    const copying = content && copyButton(say("copyMessage"), say("copied"), () => content);
    const isFork = role === "assistant" && place.count > 1;
    const laying =
        isFork &&
        iconButton("columns", say(beside ? "showOne" : "showBeside"), () =>
            acts.layOut(message, beside === null),
        );
    const taking = beside === "other" && plainButton(say("takeBranch"), () => acts.take(message));
    const stats = element("span", { class: "stats" }, told(message));
    const stepping = beside === null && place.count > 1 && branches(message, place, acts);
    return [stepping, copying, own(message, acts), laying, taking, stats].filter(Boolean);
}

function own(message, acts) {
    if (message.role === "user") return iconButton("edit", say("edit"), acts.edit);
    if (message.role === "tool") return null;
    return iconButton("again", say("regenerate"), () => acts.regenerate(message));
}

function branches(message, { index, count }, acts) {
    return element(
        "span",
        { class: "branches", role: "group", "aria-label": say("branch", { index, count }) },
        iconButton("back", say("previousBranch"), () => acts.step(message, -1), { disabled: index === 1 }),
        `${index}/${count}`,
        iconButton("forth", say("nextBranch"), () => acts.step(message, 1), { disabled: index === count }),
    );
}

/** Why an answer is not what it could be, and what to do about it; nothing if all is well. */
export function statusParts(message, acts) {
    const { failure, content, calls, finish } = message;
    const goingOn = content && !calls && plainButton(say("goOn"), () => acts.goOn(message));
    if (failure !== undefined) {
        return [
            element("span", { role: "alert" }, `${say(content ? "failedMidway" : "failed")} ${failure}`),
            plainButton(say("retry"), () => acts.regenerate(message)),
            goingOn,
        ].filter(Boolean);
    }
    if (!isCut(message)) return [];
    return [say(finish === "length" ? "cutShort" : "stopped"), goingOn].filter(Boolean);
}

/** Whether an answer ended before its end. It has no reason where the page was left in its midst. */
export function isCut({ role, failure, finish }) {
    return role === "assistant" && (failure !== undefined || ["stopped", "length", undefined].includes(finish));
}

function told({ model, speaker, why, parameters, usage, timings }) {
    return [
        speaker ? say("spokenBy", { asked: model, speaker }) : model,
        why && say("because", { why }),
        ...Object.entries(parameters ?? {}).map(setting),
        usage && numTokens(usage, parameters?.n),
        timings && say("speed", { speed: number(timings.tokens_per_second, 1) }),
        timings && say("firstToken", { seconds: number(timings.first_token_s, 2) }),
    ]
        .filter(Boolean)
        .join(" · ");
}

/** The answers of one request are counted together. */
function numTokens({ completion_tokens: count }, n = 1) {
    return n > 1
        ? say("numTokensOfAll", { count: number(count), n })
        : say("numTokens", { count: number(count) });
}

/** A parameter as it was asked for; of a long one, such as the tools, its name alone. */
function setting([name, value]) {
    const text = JSON.stringify(value);
    return text.length > 40 ? name : `${name}=${text}`;
}
