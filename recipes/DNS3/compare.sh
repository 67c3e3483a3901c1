#!/usr/bin/env bash
# Train every network with one budget: the same data, loss, schedule and number of hours.
#
#   ./compare.sh DATA_FOLDER [OPTIONS OF train.py ...]
#   ./compare.sh /path/to/datasets --number_of_epochs 20 --precision bf16
#   MODELS="deepvqe_s dpcrn" RESULTS=results/small ./compare.sh /path/to/corpus --items_per_epoch 450
#   LAUNCH="torchrun --nproc_per_node=4" ./compare.sh /path/to/datasets
#
# Stopped at any moment, the same command goes on: a network that is published is left out, one that is not resumes.
set -euo pipefail
data=${1:?"usage: ./compare.sh DATA_FOLDER [OPTIONS OF train.py ...]"}
shift
models=${MODELS:-deepvqe deepvqe_s dpcrn tf_gridnet}
results=${RESULTS:-results/compare}
launch=${LAUNCH:-python}
data=$(realpath "$data")
cd "$(dirname "$0")"

mkdir -p "$results"
if [ -f "$results/budget.txt" ] && [ "$(cat "$results/budget.txt")" != "$*" ]; then
    echo "$results was begun with the options: $(cat "$results/budget.txt")" >&2
    echo "One table needs one budget: give the same options, or another folder with RESULTS=." >&2
    exit 2
fi
printf '%s' "$*" > "$results/budget.txt"

for model in $models; do
    if [ -f "$results/$model/model/model.safetensors" ]; then
        echo "== $model is finished"
        continue
    fi
    echo "== $model"
    # The manifests are shared, so that every network sees the same files in the same order.
    $launch train.py "hparams/$model.yaml" --data_folder "$data" --manifest_folder "$results/manifests" \
        --output_folder "$results/$model" "$@"
done

# shellcheck disable=SC2086
python -m deepvqe_hub.training.curve $(for model in $models; do echo "$results/$model/train_log.txt"; done) \
    "$results/curve.png" --force
echo "Checkpoint folders: $results/*/model, curves: $results/curve.png"
