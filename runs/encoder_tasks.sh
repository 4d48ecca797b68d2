#!/usr/bin/env bash
# From Korean text to two scores: a tokenizer, a small BERT that fills gaps, and what it learns of two tasks, beside a
# bag of words on the same texts. What it gave, and how long it took: docs/lab-log.md.
#
#   runs/encoder_tasks.sh DATA       a directory with tasks/nsmc.*, tasks/korsts.* and pretrain-ko.*
#   MALMOI=path/to/malmoi PYTHON=path/to/python runs/encoder_tasks.sh DATA
#
# Everything lands in ./out. Stopped, the same command goes on where it was.
set -euo pipefail

data=${1:?"Name the directory of the data, for example: runs/encoder_tasks.sh data"}
malmoi=${MALMOI:-malmoi}
python=${PYTHON:-python}
here=$(dirname "$0")

say() { printf '\n== %s\n' "$1"; }

say "1. a vocabulary of reviews, with [CLS], [SEP] and [MASK]"
[ -e out/encoder-tokenizer/tokenizer.json ] ||
    $malmoi tokenizer train "$data/tasks/nsmc.train.*" --encoder --vocab-size 8192 --out out/encoder-tokenizer

say "2. an encoder that fills gaps"
$malmoi train mlm --data "$data"

say "3. for the film or against it"
$malmoi train classify --data "$data"
$malmoi classify --model out/classify/model "정말 재밌게 봤어요. 또 보고 싶다" "돈이 아깝다. 배우들이 불쌍함"

say "4. how near two sentences are"
$malmoi train similarity --data "$data"
$malmoi embed --model out/similarity/model --similarity \
    "한 남자가 기타를 치고 있다." "남자가 기타를 연주한다." "고양이가 우유를 마신다."

say "5. what a bag of words scores"
$python "$here/bag_of_words.py" "$data"
