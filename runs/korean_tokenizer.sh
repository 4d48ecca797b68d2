#!/usr/bin/env bash
# Two tokenizers of 32,768 tokens with few tokens a syllable: of Korean alone, and of Korean and English.
#
#   runs/korean_tokenizer.sh DATA [TOKENIZER...]    DATA holds pretrain-ko, pretrain-en and tasks/ntrex.dev
#
# A few minutes and 4 GB of memory. At the end both are measured on news that neither has seen, beside any TOKENIZER
# that you name, for example tekken=.../tekken_240911.json. Delete a directory to make it again.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: runs/korean_tokenizer.sh DATA [TOKENIZER...]}
malmoi=.venv/bin/malmoi

learn() {
    [[ -e out/$1/tokenizer.json ]] ||
        $malmoi tokenizer train --pattern compact --vocab-size 32768 --out "out/$1" "${@:2}"
}
learn korean-tokenizer "$data"/pretrain-ko.jsonl.zst
# English twice, so that it has more than a third of the text.
learn korean-english-tokenizer "$data"/pretrain-{ko,en,en}.jsonl.zst

$malmoi tokenizer compare out/korean-tokenizer out/korean-english-tokenizer "${@:2}" \
    --parallel "$data"/tasks/ntrex.dev.jsonl.zst
