/* What the commands of TeX mean: \alpha is α, \leq is ≤, \mathbb{R} is ℝ. Read first: math.js, which reads formulas. */

const pairs = (text) =>
    new Map(
        text
            .trim()
            .split(/\s+/)
            .map((pair) => [pair.slice(0, -[...pair].at(-1).length), [...pair].at(-1)]),
    );

export const LETTERS =
    pairs(`alphaα betaβ gammaγ deltaδ epsilonϵ varepsilonε zetaζ etaη thetaθ varthetaϑ iotaι kappaκ lambdaλ muμ
    nuν xiξ piπ rhoρ sigmaσ tauτ upsilonυ phiϕ varphiφ chiχ psiψ omegaω GammaΓ DeltaΔ ThetaΘ LambdaΛ XiΞ PiΠ SigmaΣ PhiΦ
    PsiΨ OmegaΩ infty∞ partial∂ nabla∇ ellℓ hbarℏ emptyset∅ forall∀ exists∃ Reℜ Imℑ`);
export const OPERATORS =
    pairs(`times× div÷ cdot⋅ pm± mp∓ ast∗ circ∘ bullet∙ leq≤ le≤ geq≥ ge≥ neq≠ ne≠ approx≈ equiv≡ sim∼ simeq≃
    cong≅ propto∝ ll≪ gg≫ in∈ notin∉ ni∋ subset⊂ supset⊃ subseteq⊆ supseteq⊇ cup∪ cap∩ setminus∖ land∧ wedge∧ lor∨ vee∨
    neg¬ lnot¬ to→ rightarrow→ leftarrow← leftrightarrow↔ Rightarrow⇒ Leftarrow⇐ Leftrightarrow⇔ implies⟹ iff⟺ mapsto↦
    int∫ iint∬ oint∮ ldots… dots… cdots⋯ vdots⋮ ddots⋱ prime′ mid∣ parallel∥ perp⊥ oplus⊕ otimes⊗ odot⊙ langle⟨ rangle⟩
    lfloor⌊ rfloor⌋ lceil⌈ rceil⌉ vert| Vert‖ lbrace{ rbrace} colon:`);
export const LIMITED = pairs("sum∑ prod∏ coprod∐ bigcup⋃ bigcap⋂ bigoplus⨁ bigotimes⨂");
export const FUNCTIONS = new Set(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp det dim ker deg gcd arg Pr".split(
        " ",
    ),
);
export const LIMIT_FUNCTIONS = new Set("lim max min sup inf limsup liminf argmax argmin".split(" "));
export const ACCENTS = pairs("hat^ widehat^ bar¯ overline¯ vec→ dot˙ ddot¨ tilde~ widetilde~");
export const SPACES = new Map([
    [",", 0.17],
    [":", 0.22],
    [">", 0.22],
    [";", 0.28],
    ["!", -0.17],
    [" ", 0.25],
    ["quad", 1],
    ["qquad", 2],
]);
export const TEXTS = new Set(["text", "mathrm", "textbf", "textrm", "textit", "operatorname", "mbox"]);
export const ALPHABETS = new Map([
    ["mathbf", [0x1d400, 0x1d41a]],
    ["boldsymbol", [0x1d400, 0x1d41a]],
    ["mathbb", [0x1d538, 0x1d552]],
    ["mathcal", [0x1d4d0, 0x1d4ea]],
    ["mathsf", [0x1d5a0, 0x1d5ba]],
    ["mathtt", [0x1d670, 0x1d68a]],
]);
export const DOUBLE_STRUCK = pairs("Cℂ Hℍ Nℕ Pℙ Qℚ Rℝ Zℤ"); // those that Unicode had before it had the alphabet
export const BRACKETS = new Map([
    ["matrix", ["", ""]],
    ["pmatrix", ["(", ")"]],
    ["bmatrix", ["[", "]"]],
    ["Bmatrix", ["{", "}"]],
    ["vmatrix", ["|", "|"]],
    ["Vmatrix", ["‖", "‖"]],
    ["cases", ["{", ""]],
    ["aligned", ["", ""]],
    ["align", ["", ""]],
    ["align*", ["", ""]],
    ["array", ["", ""]],
    ["gathered", ["", ""]],
]);
