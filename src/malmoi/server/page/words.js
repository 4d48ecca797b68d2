/* What the page says, in Korean and in English: the browser's language decides, unless the reader chose one. */

const WORDS = {
    // The frame
    name: ["말모이", "Malmoi"],
    newChat: ["새 대화", "New chat"],
    chats: ["대화", "Chats"],
    chat: ["대화", "Chat"],
    tokens: ["토큰", "Tokens"],
    searchChats: ["대화 찾기 (초성도 됩니다)", "Search chats"],
    noChats: ["아직 대화가 없습니다.", "No chats yet."],
    noneFound: ["찾는 말이 든 대화가 없습니다.", "No chat has these words."],
    exportChats: ["내보내기", "Export"],
    importChats: ["가져오기", "Import"],
    imported: ["대화 {count}개를 가져왔습니다.", "Imported: {count}."],
    notImported: ["가져올 수 없는 파일입니다. {problem}", "This file cannot be imported. {problem}"],
    deleteChat: ["대화 지우기", "Delete chat"],
    deleted: ["대화를 지웠습니다.", "Chat deleted."],
    undo: ["되돌리기", "Undo"],
    openChats: ["대화 목록 열기", "Open the list of chats"],
    closeChats: ["대화 목록 닫기", "Close the list of chats"],
    settings: ["설정", "Settings"],
    close: ["닫기", "Close"],
    model: ["모델", "Model"],
    skip: ["입력란으로 건너뛰기", "Skip to the message box"],
    storedHere: ["대화는 이 브라우저에만 저장됩니다.", "Chats are kept in this browser only."],
    notStored: [
        "이 브라우저에 대화를 저장할 수 없습니다. {problem}",
        "This browser cannot keep chats. {problem}",
    ],

    // Look and language
    look: ["화면", "Look"],
    theme: ["밝기", "Theme"],
    themeSystem: ["시스템 설정대로", "As the system"],
    themeLight: ["밝게", "Light"],
    themeDark: ["어둡게", "Dark"],
    language: ["언어", "Language"],
    languageBrowser: ["브라우저 설정대로", "As the browser"],
    seeTokens: ["토큰별 확률 보기", "Show each token's probability"],
    seeTokensHint: [
        "다음 답변부터 모델이 망설인 토큰일수록 짙게 칠합니다. 누르면 다른 후보가 나옵니다.",
        "From the next answer on, the less sure the model was of a token, the stronger its tint. Press one for the others.",
    ],
    otherModel: ["나란히 비교할 모델", "Compare with"],
    otherModelHint: [
        "질문마다 두 모델의 답을 나란히 받습니다. 마음에 드는 답으로 이어 가세요.",
        "Every question is answered by both, side by side. Go on from the one you like.",
    ],
    noOther: ["비교하지 않기", "none"],
    apiKey: ["API 키", "API key"],
    apiKeyHint: [
        "서버가 요구할 때만 필요합니다. 이 브라우저에 저장됩니다.",
        "Only if the server asks for one. Kept in this browser.",
    ],

    // The conversation
    greeting: ["무엇이든 물어보세요", "Ask anything"],
    greetingHint: [
        "Enter로 보내고 Shift+Enter로 줄을 바꿉니다. 한글은 조합 중이어도 Enter 한 번이면 됩니다.",
        "Enter sends, Shift+Enter is a new line.",
    ],
    placeholder: ["메시지를 입력하세요", "Message"],
    send: ["보내기", "Send"],
    stop: ["멈추기 (Esc)", "Stop (Esc)"],
    you: ["나", "You"],
    assistant: ["모델", "Model"],
    answering: ["답변하는 중입니다.", "Answering."],
    thoughts: ["생각", "Thoughts"],
    copyMessage: ["복사", "Copy"],
    copyCode: ["코드 복사", "Copy code"],
    copied: ["복사했습니다", "Copied"],
    edit: ["고쳐서 다시 보내기", "Edit and send again"],
    regenerate: ["다시 답하기", "Answer again"],
    cancel: ["취소", "Cancel"],
    previousBranch: ["이전 갈래", "Previous branch"],
    nextBranch: ["다음 갈래", "Next branch"],
    showBeside: ["갈래를 나란히 보기", "Show the branches side by side"],
    showOne: ["한 갈래만 보기", "Show one branch"],
    takeBranch: ["이 답으로 이어 가기", "Go on from this one"],
    branch: ["{count}개 중 {index}번째 갈래", "Branch {index} of {count}"],
    stopped: ["여기서 멈췄습니다.", "Stopped here."],
    cutShort: ["최대 토큰 수에 닿아 여기서 끊겼습니다.", "Cut off here: the limit of tokens."],
    failed: ["답변을 받지 못했습니다.", "There was no answer."],
    failedMidway: ["답변이 중간에 끊겼습니다.", "The answer broke off."],
    unreachable: [
        "서버에 연결할 수 없습니다. 서버가 켜져 있는지 확인하세요.",
        "The server cannot be reached. Is it running?",
    ],
    keyNeeded: [
        "API 키가 없거나 틀립니다. 설정에서 넣어 주세요.",
        "The API key is missing or wrong: give it in the settings.",
    ],
    noModel: ["쓸 수 있는 모델이 없습니다.", "There is no model."],
    retry: ["다시 시도", "Try again"],
    speed: ["{speed}토큰/초", "{speed} tokens/s"],
    firstToken: ["첫 토큰 {seconds}초", "first token {seconds} s"],
    numTokens: ["{count}토큰", "{count} tokens"],
    context: ["컨텍스트 {used} / {length}", "Context {used} / {length}"],
    bill: [
        "이 대화에 든 토큰: 입력 {prompt} (캐시 {cached}), 출력 {completion}",
        "Tokens of this chat: {prompt} in ({cached} cached), {completion} out",
    ],
    alternatives: ["이 자리의 후보", "What else was likely"],
    otherTokens: ["나머지", "all others"],

    // How to answer
    system: ["시스템 프롬프트", "System prompt"],
    systemHint: [
        "모델의 역할과 말투를 정합니다. 이 대화 내내 적용됩니다.",
        "Who the model is and how it speaks, all through this chat.",
    ],
    parameters: ["샘플링", "Sampling"],
    parametersHint: [
        "비워 두면 모델의 기본값을 씁니다.",
        "What is left empty is as the model's own files say.",
    ],
    modelDefault: ["기본값", "default"],
    preset: ["프리셋", "Preset"],
    presetNone: ["직접 정하기", "Custom"],
    savePreset: ["지금 설정을 프리셋으로 저장", "Save as a preset"],
    presetName: ["프리셋 이름", "Name of the preset"],
    deletePreset: ["프리셋 지우기", "Delete preset"],
    reset: ["모두 비우기", "Clear all"],
    more: ["더 보기", "More"],
    outOfRange: ["{low}~{high} 사이의 수를 넣으세요.", "Give a number from {low} to {high}."],
    notWhole: ["정수를 넣으세요.", "Give a whole number."],
    notBiases: ["한 줄에 하나씩 ‘토큰 id: 수’로 적으세요.", "One a line: token id, colon, number."],

    // The tokens page
    tokensTitle: ["모델은 글을 이렇게 자릅니다", "How a model cuts text"],
    tokensHint: [
        "글을 넣으면 모델마다 토큰으로 잘라 보여 줍니다. 글자 하나가 토큰 여럿으로 쪼개지면 바이트를 16진수로 적습니다.",
        "Give a text, and see it cut by each model. What is only a part of a character is written as bytes, in hexadecimal.",
    ],
    tokensSample: [
        "말모이는 1911년에 시작된 최초의 한국어 사전 원고입니다. 말을 모은다는 뜻이지요. 👨‍👩‍👧",
        "Malmoi was the first dictionary of Korean, begun in 1911. 말모이: words, gathered. 👨‍👩‍👧",
    ],
    tokensText: ["자를 글", "Text to cut"],
    tokensModels: ["모델", "Models"],
    countTokens: ["토큰", "tokens"],
    countCharacters: ["글자", "characters"],
    countBytes: ["바이트", "bytes"],
    perSyllable: ["음절당 토큰", "tokens a syllable"],
    normalise: ["형태 바꾸기", "Form"],
};

const KEY = "malmoi.language";
const chosen = localStorage.getItem(KEY);

/** "ko" or "en": of this page, until it is loaded again. */
export const language = chosen ?? (navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en");

/** What the reader chose, "" for the browser's language. */
export const chosenLanguage = chosen ?? "";

/** Choose a language, "" for the browser's; the page is loaded again in it. */
export function chooseLanguage(value) {
    if (value) localStorage.setItem(KEY, value);
    else localStorage.removeItem(KEY);
    location.reload();
}

/** The words for `key`, with `{name}` replaced by values: `say("branch", {index: 1, count: 2})`. */
export function say(key, values = {}) {
    return sayIn(WORDS[key]).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Of words in both languages, [Korean, English], those of this page. */
export function sayIn([korean, english]) {
    return language === "ko" ? korean : english;
}

/** A number as it is written here; `digits` behind the point at most. */
export function number(value, digits = 0) {
    return value.toLocaleString(language, { maximumFractionDigits: digits });
}

/** Fill in the words of index.html: data-say is an element's text, data-label its name, data-hint its placeholder. */
export function fillWords(root) {
    document.documentElement.lang = language;
    for (const node of root.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
    for (const node of root.querySelectorAll("[data-label]")) {
        node.setAttribute("aria-label", say(node.dataset.label));
        if (node.matches("button, a")) node.title = say(node.dataset.label);
    }
    for (const node of root.querySelectorAll("[data-hint]")) node.placeholder = say(node.dataset.hint);
}
