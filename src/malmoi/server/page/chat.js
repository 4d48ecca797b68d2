/* The chat page: a conversation is asked, answered, edited, branched, and its branches laid side by side.

   question -> addMessage -> Answers -> the messages grow -> ChatView, once a frame

Read first: conversation.js (the tree), answers.js (how messages grow) and chat_view.js (how they are shown).
*/

import { Answers } from "./answers.js";
import { Attachments } from "./attachments.js";
import { addAgain, addAnswers, addBranch, addResults, parentOfNext } from "./branching.js";
import { ChatView } from "./chat_view.js";
import { ComposeBox } from "./compose_box.js";
import { addMessage, choose, isEmpty, removeMessage, shownMessages, siblings } from "./conversation.js";
import { at } from "./dom.js";
import { takesMedium } from "./models.js";
import { say } from "./words.js";

const SAVE_MS = 1000;
const TICK_MS = 1000; // a thought says how long it has taken

/** Holds the conversation that is shown. `asked()` gives {models, seesTokens} for the next answer, of which every model
 *  gives one; `saved(conversation)` is called when one is to be kept, `drawn(conversation, shown)` when one was drawn,
 *  `answered()` when an answer is over. */
export class ChatPage {
    #asked;
    #saved;
    #drawn;
    #answers;
    #conversation;
    #view;
    #attachments;
    #box;
    #isDrawing = false;
    #savedAt = new WeakMap(); // conversation -> when it was kept last

    constructor({ api, asked, saved, drawn, answered }) {
        this.#asked = asked;
        this.#saved = saved;
        this.#drawn = drawn;
        this.#answers = new Answers(api, (conversation, messages, isOver) => {
            this.#drawSoon();
            const isDue = performance.now() - (this.#savedAt.get(conversation) ?? 0) > SAVE_MS;
            if (isOver || isDue) this.#save(conversation);
            if (isOver) answered();
            if (isOver && conversation === this.#conversation)
                this.#announce(messages.map(({ failure, content }) => failure ?? content).join("\n"));
        });
        this.#view = new ChatView(this.#answers, this.#acts());
        this.#attachments = new Attachments((kind) =>
            this.#asked().models.every((model) => takesMedium(model, kind)),
        );
        this.#box = new ComposeBox(
            at("question"),
            (text) => this.ask(text),
            () => !this.#attachments.isEmpty,
        );
        this.#listen();
        setInterval(() => this.#isAnswering && this.#drawSoon(), TICK_MS);
    }

    get conversation() {
        return this.#conversation;
    }

    /** Show this conversation. */
    open(conversation) {
        this.#conversation = conversation;
        this.#view.open(conversation);
        this.draw();
        if (matchMedia("(pointer: fine)").matches) at("question").focus();
    }

    /** Send a question, as the next message of what is shown. Returns false while an answer is under way. */
    ask(text) {
        if (this.#attachments.isReading || this.#isAnswering) return false;
        return this.#askUnder(parentOfNext(this.#conversation), text, this.#attachments.take());
    }

    /** End what is being answered in a conversation, the one that is shown if none is named; what has come of it stays. */
    stop(conversation = this.#conversation) {
        this.#answers.stop(conversation);
    }

    /** Draw what is shown. */
    draw() {
        const isAnswering = this.#isAnswering;
        this.#view.draw();
        document.title = [this.#conversation.title, say("name")].filter(Boolean).join(" · ");
        at("send").hidden = isAnswering;
        at("stop").hidden = !isAnswering;
        this.#drawn(this.#conversation, shownMessages(this.#conversation));
    }

    #listen() {
        at("composer").addEventListener("submit", (event) => {
            event.preventDefault();
            this.#box.send();
        });
        at("stop").addEventListener("click", () => this.stop());
        at("question").addEventListener("fit", () => this.#view.followEnd(() => {}));
        document.addEventListener("keydown", (event) => {
            const isElsewhere = document.querySelector("dialog[open], :popover-open");
            if (event.key === "Escape" && !event.isComposing && !isElsewhere) this.stop();
        });
    }

    #acts() {
        return {
            edit: (edited, text) => this.#askUnder(edited.parent, text, edited.media),
            regenerate: (answer) => this.#regenerate(answer),
            step: (shown, by) => {
                const branches = siblings(this.#conversation, shown);
                this.#take(branches[branches.indexOf(shown) + by]);
            },
            take: (branch) => this.#take(branch),
            layOut: (answer, isBeside) => {
                this.#view.layOut(answer.parent, isBeside);
                this.#view.followEnd(() => this.draw());
            },
            goOn: (answer, place, token) => this.#goOn(answer, place, token),
            giveResults: (answer, results) => this.#giveResults(answer, results),
        };
    }

    get #isAnswering() {
        return this.#answers.isAnswering(this.#conversation);
    }

    #askUnder(parent, text, media = []) {
        if (this.#isAnswering) return false;
        const files = media.length > 0 && { media };
        const question = addMessage(this.#conversation, { parent, role: "user", content: text, ...files });
        this.#askModels(question.id, this.#asked().models);
        this.#view.goToEnd();
        return true;
    }

    #regenerate(answer) {
        if (this.#isAnswering) return;
        if (isEmpty(answer)) removeMessage(this.#conversation, answer);
        if (isEmpty(answer) && answer.began) this.#grow([[addAgain(this.#conversation, answer)]]);
        else this.#askModels(answer.parent, this.#asked().models.slice(0, 1));
    }

    #goOn(answer, place, token) {
        if (this.#isAnswering) return;
        this.#grow([[addBranch(this.#conversation, answer, place, token)]]);
    }

    /** Tell the model what came of its calls, and ask it to go on. */
    #giveResults(answer, results) {
        if (this.#isAnswering) return;
        const last = addResults(this.#conversation, answer, results);
        this.#askModels(last.id, this.#asked().models.slice(0, 1));
        this.#view.goToEnd();
    }

    #askModels(parent, models) {
        const groups = addAnswers(this.#conversation, parent, models, this.#asked().seesTokens);
        if (groups.flat().length > 1) this.#view.layOut(parent, true);
        this.#grow(groups);
    }

    /** Let messages grow into answers, those of each group by one request. */
    #grow(groups) {
        for (const messages of groups) this.#answers.answer(this.#conversation, messages);
        this.#announce(say("answering"));
        this.#save(this.#conversation);
        this.draw();
        at("question").focus();
    }

    #take(branch) {
        choose(this.#conversation, branch);
        this.#save(this.#conversation);
        this.draw();
    }

    #save(conversation) {
        this.#savedAt.set(conversation, performance.now());
        this.#saved(conversation);
    }

    // A frame shows whatever has come by then, so that a fast answer costs no more than a slow one.
    #drawSoon() {
        if (this.#isDrawing) return;
        this.#isDrawing = true;
        requestAnimationFrame(() => {
            this.#isDrawing = false;
            this.#view.followEnd(() => this.draw());
        });
    }

    #announce(text) {
        at("announcer").textContent = text;
    }
}
