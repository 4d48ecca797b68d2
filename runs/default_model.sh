#!/usr/bin/env bash
# How the model that ships in the package was made: tokenizer, conversations, pretraining, chat tuning, model card.
#
#   runs/default_model.sh DATA      DATA holds pretrain-ko, pretrain-en and chat-ko, each .jsonl.zst
#
# Minutes on a GPU, days on a processor. Stop it whenever you like: run it again and it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: runs/default_model.sh DATA}
malmoi=.venv/bin/malmoi

# 12,288 tokens, half a percent of the documents held out here and everywhere below.
[[ -e out/default-tokenizer/tokenizer.json ]] ||
    $malmoi tokenizer train --vocab-size 12288 --out out/default-tokenizer "$data"/pretrain-{ko,en}.jsonl.zst

[[ -e out/default-turns.jsonl.zst ]] || .venv/bin/python runs/join_conversations.py --data "$data"

$malmoi train default-pretrain --data "$data"
$malmoi train default-sft --data "$data"

# The package's own copy, and its card with the figures and samples of these very weights.
mkdir -p src/malmoi/default_model
cp out/default-sft/model/* src/malmoi/default_model/
.venv/bin/python runs/model_card.py --data "$data" --runs out/default-pretrain out/default-sft \
    --machine "$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)"
