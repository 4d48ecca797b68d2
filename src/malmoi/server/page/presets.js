/* The presets that come with the page. The reader's own are beside them, in presets_view.js. */

export const PRESETS = [
    { name: ["정확하게", "Precise"], parameters: { temperature: 0.2, top_p: 0.9 } },
    { name: ["늘 같게", "Always the same"], parameters: { temperature: 0 } },
    { name: ["창의적으로", "Creative"], parameters: { temperature: 1, min_p: 0.05 } },
    { name: ["한글로만", "Hangul only"], parameters: { script_lock: ["hangul"] } },
];
