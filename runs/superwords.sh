#!/usr/bin/env bash
# What tokens across spaces are worth: one vocabulary of 32,000 of words alone, and three of which a part was
# learned across spaces (arXiv:2503.13423), all learned from the same text and measured on text that none has seen.
#
#   runs/superwords.sh CORPUS TEST OUT [DATA]
#   runs/superwords.sh prose.jsonl.zst ntrex.dev.jsonl.zst#ko out/superwords sample
#
# With DATA, a directory as runs/speedrun.sh takes it, a small model is trained with words alone and one with 2,000
# superwords; each report.html tells the loss in bits a byte, which does not depend on how text is cut. Both read the
# same number of tokens, so the second has read more text.
set -euo pipefail
cd "$(dirname "$0")/.."
(($# == 3 || $# == 4)) || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 2; }
corpus=$1 test=$2 out=$3 data=${4:-} malmoi=.venv/bin/malmoi size=32000

$malmoi tokenizer train "$corpus" --vocab-size $size --out "$out/words"
for added in 2000 4000 8000; do
    $malmoi tokenizer train "$corpus" --vocab-size $((size - added)) --out "$out/words-$added"
    # What it prints last is the cost before and after; before is that of a smaller vocabulary.
    $malmoi tokenizer superwords "$out/words-$added" --corpus "$corpus" --add $added --held-out "$test" \
        --out "$out/superwords-$added"
done

[[ -z $data ]] || for name in words superwords-2000; do
    $malmoi train pretrain --data "$data" --depth 4 --set tokenizer="$out/$name" --set out="$out/pretrain-$name"
done
