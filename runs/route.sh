#!/usr/bin/env bash
# A router between two models of one recipe, from reviews to its curve: the model that ships (17.9M parameters), and the
# one that shipped before it (8.5M). Twice: as they are, and both tuned on the task. What it gave: docs/lab-log.md.
#
#   runs/route.sh DATA       a directory with tasks/nsmc.*, as runs/encoder_tasks.sh takes it
#   MALMOI=path/to/malmoi PYTHON=path/to/python runs/route.sh DATA
#
# Everything lands in ./out/route; what is there already is not made again. Both are judged on reviews that they were not
# tuned on, the router learns from these, and the report is on the dev split, which nothing has seen.
set -euo pipefail

data=${1:?"Name the directory of the data, for example: runs/route.sh data"}
malmoi=${MALMOI:-malmoi}
python=${PYTHON:-python}
here=$(dirname "$0")
out=out/route
mkdir -p $out

say() { printf '\n== %s\n' "$1"; }

ask() { # FILE ARGUMENTS OF judge.py: a file that is there is whole
    [ -e "$1" ] || { $python "$here/judge.py" "$data" "${@:2}" >"$1.part" && mv "$1.part" "$1"; }
}

judge() { # NAME WEAK STRONG
    ask "$out/$1.train.jsonl" train 40000 6000 "$2" "$3"
    ask "$out/$1.dev.jsonl" dev 0 3000 "$2" "$3"
    $malmoi router train "$out/$1.train.jsonl" --quality 0.95 --out "$out/$1-router"
    $malmoi router report "$out/$1-router" "$out/$1.dev.jsonl" --html "$out/$1.html" --png "$out/$1.png"
}

tune() { # NAME START TOKENS
    local reviews='[{"path":"'$out'/tune.jsonl","messages_field":"messages","holdout_by":"text","holdout_permille":20}]'
    [ -e "$out/$1/model/config.json" ] ||
        $malmoi train sft --set start.path="$2" --set out="$out/$1" --set total_tokens="$3" --set context_length=256 \
            --set tokens_per_batch=4096 --set compile=false --set sources="$reviews" --set eval_sources="$reviews"
}

say "1. the model that shipped before, out of the history of the repository"
if [ ! -e $out/weak/config.json ]; then
    before=$(git -C "$here" log --format=%h -- :/src/malmoi/default_model/model.safetensors | tail -1)
    mkdir -p $out/weak
    (cd "$here/.." && git archive "$before" src/malmoi/default_model) | tar x -C $out/weak --strip-components=3
fi

say "2. as they are"
judge shipped $out/weak default

say "3. tuned on 40,000 reviews: the small one on half as many tokens"
ask $out/tune.jsonl train 0 40000
tune weak-tuned $out/weak 300_000
tune strong-tuned "$(dirname "$($python -c 'import malmoi; print(malmoi.__file__)')")/default_model" 600_000
judge tuned $out/weak-tuned/model $out/strong-tuned/model
