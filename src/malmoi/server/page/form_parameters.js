/* How long a model thinks, in what form it answers, and what it may call. Read first: parameters.js, what the fields of an
   entry mean. */

import { takesTools, thinking } from "./models.js";

export const FORMS = [
    {
        name: "chat_template_kwargs",
        label: "enable_thinking",
        kind: "options",
        group: "thinking",
        needs: (model) => thinking(model) === "switchable",
        unless: ["reasoning_effort"],
        options: [
            [{ enable_thinking: true }, ["생각하고 답하기", "think first"]],
            [{ enable_thinking: false }, ["바로 답하기", "answer at once"]],
        ],
        about: ["답하기 전에 생각하게 할지 정합니다.", "Whether the model thinks before it answers."],
    },
    {
        name: "reasoning_effort",
        kind: "options",
        group: "thinking",
        needs: (model) => thinking(model) !== "never",
        unless: ["thinking_budget", "chat_template_kwargs"],
        options: [
            ["none", ["하지 않음", "none"]],
            ["minimal", ["아주 조금", "minimal"]],
            ["low", ["조금", "low"]],
            ["medium", ["보통", "medium"]],
            ["high", ["많이", "high"]],
            ["max", ["마음껏", "no limit"]],
        ],
        about: [
            "얼마나 오래 생각할지 대강 정합니다. 서버가 정해 둔 토큰 수로 바뀝니다. thinking_budget과는 함께 쓰지 않습니다.",
            "Roughly how long to think: a number of tokens that the server has for each. Not with thinking_budget.",
        ],
    },
    {
        name: "thinking_budget",
        kind: "number",
        low: 0,
        high: 1048576,
        step: 1,
        group: "thinking",
        needs: (model) => thinking(model) !== "never",
        unless: ["reasoning_effort"],
        about: [
            "생각에 쓸 수 있는 최대 토큰입니다. 다 쓰면 생각을 접고 답하기 시작합니다.",
            "The longest thought, in tokens. Then it is closed, and the answer begins.",
        ],
    },
    {
        name: "response_format",
        kind: "schema",
        group: "form",
        about: [
            "답을 이 JSON 스키마에 맞춥니다. {}만 적으면 아무 JSON 객체나 됩니다.",
            "The answer is JSON of this schema. {} alone: any object.",
        ],
    },
    {
        name: "tools",
        kind: "tools",
        group: "form",
        needs: takesTools,
        about: [
            "모델이 부를 수 있는 도구를 OpenAI 형식의 JSON 목록으로 적습니다. 결과는 답변의 카드에 직접 적습니다.",
            "What the model may call: a JSON list in OpenAI's form. You type the results into the answer's cards.",
        ],
    },
    {
        name: "tool_choice",
        kind: "options",
        group: "form",
        needs: takesTools,
        options: [
            ["auto", ["모델이 정함", "as the model likes"]],
            ["required", ["꼭 부름", "always"]],
            ["none", ["부르지 않음", "never"]],
        ],
        about: ["도구를 부를지 정합니다.", "Whether the model calls a tool."],
    },
    {
        name: "parallel_tool_calls",
        kind: "options",
        group: "form",
        needs: takesTools,
        options: [[false, ["하나씩", "one"]]],
        about: ["한 번에 도구를 몇 개까지 부를지 정합니다.", "How many tools the model may call at once."],
    },
];
