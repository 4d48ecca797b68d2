/* How tokens are chosen, and when they end. malmoi/engine/params.py says what each number does to the logits. Read first:
   parameters.js, what the fields of an entry mean. */

export const SAMPLING = [
    {
        name: "temperature",
        kind: "number",
        low: 0,
        high: 2,
        step: 0.05,
        about: [
            "낮을수록 뻔하고 안정적으로, 높을수록 다양하게 답합니다. 0이면 늘 가장 그럴듯한 토큰을 고릅니다.",
            "Lower is steadier, higher more varied. 0 always takes the likeliest token.",
        ],
    },
    {
        name: "top_p",
        kind: "number",
        low: 0,
        high: 1,
        step: 0.01,
        about: [
            "그럴듯한 토큰부터 더해 확률 합이 이 값이 될 때까지만 후보로 둡니다.",
            "Only the likeliest tokens that together make up this probability.",
        ],
    },
    {
        name: "max_tokens",
        kind: "number",
        low: 1,
        high: 1048576,
        step: 1,
        about: [
            "답변의 최대 길이(토큰)입니다. 비우면 컨텍스트가 허락하는 만큼 씁니다.",
            "The longest answer, in tokens. Empty: as long as the context has room.",
        ],
    },
    {
        name: "repetition_penalty",
        kind: "number",
        low: 0.5,
        high: 2,
        step: 0.01,
        about: [
            "이미 나온 토큰이 다시 나오기 어렵게 합니다. 1이면 끕니다.",
            "Makes what has occurred less likely. 1 is off.",
        ],
    },
    {
        name: "seed",
        kind: "number",
        low: 0,
        high: Number.MAX_SAFE_INTEGER,
        step: 1,
        about: [
            "같은 시드와 같은 질문이면 같은 답이 나옵니다.",
            "The same seed and question give the same answer.",
        ],
    },
    {
        name: "script_lock",
        kind: "options",
        options: [
            [["hangul"], ["한글만", "Hangul only"]],
            [
                ["hangul", "han"],
                ["한글과 한자", "Hangul and Hanja"],
            ],
        ],
        about: [
            "다른 문자로 새지 않게 답변의 문자를 묶습니다. 숫자와 문장 부호, 약간의 로마자는 됩니다.",
            "Keeps the answer in these scripts. Digits, punctuation and a little Latin may pass.",
        ],
    },
    {
        name: "stop",
        kind: "lines",
        about: [
            "이 문자열이 나오면 그 앞에서 답을 끝냅니다. 한 줄에 하나씩.",
            "The answer ends before any of these, one a line.",
        ],
    },
    {
        name: "n",
        kind: "number",
        low: 1,
        high: 8,
        step: 1,
        group: "rare",
        about: [
            "질문마다 답을 이만큼 받아 나란히 보여 줍니다. 질문은 한 번만 계산합니다.",
            "So many answers to each question, side by side. The question is computed once.",
        ],
    },
    {
        name: "top_k",
        kind: "number",
        low: 0,
        high: 1000000,
        step: 1,
        group: "rare",
        about: [
            "가장 그럴듯한 k개만 후보로 둡니다. 0이면 모두.",
            "Of the k likeliest tokens only. 0 keeps all.",
        ],
    },
    {
        name: "min_p",
        kind: "number",
        low: 0,
        high: 1,
        step: 0.01,
        group: "rare",
        about: [
            "1등 확률의 이 비율에 못 미치는 토큰을 뺍니다.",
            "Leaves out what is less than this fraction as likely as the likeliest.",
        ],
    },
    {
        name: "typical_p",
        kind: "number",
        low: 0.001,
        high: 1,
        step: 0.001,
        group: "rare",
        about: [
            "놀라움이 평균에 가까운 토큰부터 이 확률만큼만 후보로 둡니다. 1이면 모두.",
            "Of the tokens about as surprising as expected, those that make up this probability. 1 keeps all.",
        ],
    },
    {
        name: "frequency_penalty",
        kind: "number",
        low: -2,
        high: 2,
        step: 0.1,
        group: "rare",
        about: [
            "답변에 나온 횟수만큼 그 토큰의 점수를 깎습니다.",
            "Lowers a token for each time that the answer has it.",
        ],
    },
    {
        name: "presence_penalty",
        kind: "number",
        low: -2,
        high: 2,
        step: 0.1,
        group: "rare",
        about: [
            "답변에 한 번이라도 나온 토큰의 점수를 깎습니다.",
            "Lowers a token once if the answer has it at all.",
        ],
    },
    {
        name: "min_tokens",
        kind: "number",
        low: 0,
        high: 1048576,
        step: 1,
        group: "rare",
        about: ["이만큼은 쓰고 나서 끝낼 수 있습니다.", "No end before so many tokens."],
    },
    {
        name: "beam_width",
        kind: "number",
        low: 1,
        high: 1024,
        step: 1,
        group: "rare",
        about: [
            "2 이상이면 뽑지 않고, 갈래를 이만큼 살려 가며 가장 그럴듯한 답을 찾습니다.",
            "More than 1: no drawing, but a search for the likeliest answer, with so many beginnings at a time.",
        ],
    },
    {
        name: "length_penalty",
        kind: "number",
        low: -10,
        high: 10,
        step: 0.1,
        group: "rare",
        about: [
            "찾을 때(beam_width) 클수록 긴 답을 고릅니다. 0이면 길이를 따지지 않습니다.",
            "Of a search (beam_width): the higher, the longer its answers. 0 does not look at the length.",
        ],
    },
    {
        name: "early_stopping",
        kind: "options",
        group: "rare",
        options: [
            [true, ["답이 차면 바로", "when there are enough"]],
            ["never", ["더 나은 답이 없을 때까지", "when none can be better"]],
        ],
        about: ["찾기(beam_width)를 언제 끝낼지 정합니다.", "When a search (beam_width) is over."],
    },
    {
        name: "latin_share",
        kind: "number",
        low: 0,
        high: 1,
        step: 0.05,
        group: "rare",
        about: [
            "문자를 묶었을 때 로마자 단어가 차지해도 되는 비율입니다.",
            "Under a script lock: the share of words that may be Latin.",
        ],
    },
    {
        name: "ignore_eos",
        kind: "flag",
        group: "rare",
        about: ["끝내려 해도 최대 길이까지 계속 씁니다.", "Goes on behind an end, up to the longest answer."],
    },
    {
        name: "logit_bias",
        kind: "biases",
        group: "rare",
        about: [
            "토큰의 점수를 올리거나 내립니다. 한 줄에 ‘토큰 id: 수’, −100이면 금지.",
            "Raises or lowers tokens, one a line: id, colon, number. −100 forbids.",
        ],
    },
    {
        name: "regex",
        kind: "text",
        group: "rare",
        about: [
            "답변 전체가 이 정규식에 맞아야 합니다.",
            "The whole answer matches this regular expression.",
        ],
    },
    {
        name: "choice",
        kind: "lines",
        group: "rare",
        about: ["이 가운데 하나로만 답합니다. 한 줄에 하나씩.", "The answer is one of these, one a line."],
    },
    {
        name: "grammar",
        kind: "text",
        group: "rare",
        about: [
            "답변 전체가 이 문법(Lark 또는 GBNF)을 따릅니다.",
            "The whole answer is of this grammar, Lark or GBNF.",
        ],
    },
];
