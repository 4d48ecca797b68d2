#!/usr/bin/env bash
# From a pile of Korean text to a model that answers: the whole of Malmoi, top to bottom.
#
#   runs/speedrun.sh                             sample/ into a model of depth 4
#   runs/speedrun.sh --depth 8 --data DIR        a larger model of your own text
#   runs/speedrun.sh ... --set compile=false     what comes last is for both training stages (malmoi train --help)
#
# There is ONE dial, the depth. Width, vocabulary and how much text is read follow from it:
#
#   depth    width    vocabulary    parameters    tokens read
#       2       64         2,048         0.2 M            2 M
#       4      128         4,096         1.4 M           16 M
#       8      256         8,192         8.5 M          126 M      the shape of the model in the package
#      12      384        12,288          26 M          425 M
#
# Stop it whenever you like, with Ctrl-C or harder: run it again and it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."

depth=4 data=sample out=
while (($#)) && [[ $1 != --set ]]; do
    case $1 in
        --depth | --data | --out) declare "${1#--}=${2:?$1 needs a value}" && shift 2 ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
done
out=${out:-out/depth-$depth}
malmoi=.venv/bin/malmoi
[[ -x $malmoi ]] || make install
say() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

# The data is a directory with three things, each .jsonl or .parquet, prose also .txt, compressed or not:
#   prose.*   rows of `text`: where the model learns Korean
#   pairs.*   rows of `ko` and `en`: a sentence and its translation (may be missing)
#   chat.*    rows of `messages`: where it learns to answer
# sample/README.md says where ours comes from.

# 1. Text -> tokens. A byte-level BPE that knows Hangul (docs/decisions/0002-pretokenisation.md): every text can be
#    encoded, and a syllable that is frequent is one token. What is held out measures it: bytes a token.
say "1. a tokenizer of $((1024 * depth)) tokens"
[[ -f $out/tokenizer/tokenizer.json ]] ||
    $malmoi tokenizer train "$data/prose.*" --vocab-size $((1024 * depth)) --out "$out/tokenizer"

# 2. Tokens -> a model that continues text. A Llama (src/malmoi/models/llama.py) with random weights reads documents
#    packed end to end, none seeing the other (data/pack.py), and learns the next token (train/loop.py). The recipe is
#    recipes/story.py. Its loss is told in bits per byte, so that models with other tokenizers can be compared.
#    It leaves model/, an ordinary Hugging Face directory, and report.html.
say "2. pretraining: a model that continues text"
$malmoi train pretrain --data "$data" --depth "$depth" \
    --set tokenizer="$out/tokenizer" --set out="$out/pretrain" "$@"

# 3. -> a model that answers. Conversations are rendered as they will be when it serves (text/chat.py); only the
#    assistant's tokens are targets, green in the samples that it shows first.
say "3. chat tuning: a model that answers"
$malmoi train sft --data "$data" --depth "$depth" \
    --set start.path="$out/pretrain/model" --set out="$out/sft" "$@"

# 4. It talks: an engine that computes all requests of a moment in one forward (docs/life-of-a-request.md), and a
#    stream that never shows half a syllable.
say "4. a text continued, a question answered"
$malmoi generate "한국어는" --model "$out/pretrain/model" --max-tokens 48 --seed 0
$malmoi chat "오늘 기분이 어때?" --model "$out/sft/model" --max-tokens 48 --seed 0

say "done"
printf '%s\n' \
    "talk with it:   $malmoi chat --model $out/sft/model" \
    "read about it:  $out/pretrain/report.html and $out/sft/report.html"
