#!/usr/bin/env bash
# All that needs a GPU, in under 8 minutes and without a network; prints one table last, to be kept as
# bench/results/h200.md:
#
#     bench/gpu.sh [--batches 4,64] [--dtype bfloat16] [--modes default] [--out FOLDER] [--dry-run]
#
# More batches (4,8,16,32,64) and modes of torch.compile (default,reduce-overhead) take longer: TIMES=3 has three times
# the time for each part. --dry-run does it all on the CPU with small models: what it prints is no measurement.
#
# Wheels that must be there (it looks for them first, and says what is missing):
#     cupy-cuda13x or cupy-cuda12x, 14.2 (with CUDA's headers and NVRTC: its [ctk], or a toolkit), cuda-pathfinder,
#     numpy, scipy, numba, ml_dtypes, safetensors, rich, pytest
# and, for what they are compared with or faster by: torch 2.11, nvidia-cudnn-frontend 1.23.0. Not needed: tyro,
# threadpoolctl, hypothesis, memray. PYTHON chooses the interpreter.
set -u
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python3}
TIMES=${TIMES:-1}
export PYTHONPATH=. PYTHONUNBUFFERED=1
batches=4,64 dtype=bfloat16 modes=default dry="" out=""
while [ $# -gt 0 ]; do
  case "$1" in
    --batches) batches=$2; shift 2 ;;
    --dtype) dtype=$2; shift 2 ;;
    --modes) modes=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --dry-run) dry=yes; shift ;;
    *) echo "bench/gpu.sh: expected --batches, --dtype, --modes, --out or --dry-run; got $1" >&2; exit 2 ;;
  esac
done
out=${out:-$(mktemp -d)}
mkdir -p "$out" && rm -f "$out"/*.json "$out"/*.xml "$out"/*.log "$out"/*.status || exit 1
"$PYTHON" bench/gpu_table.py check ${dry:+--dry-run} || exit 2

part() { # name, seconds, command: its output goes to a log, its failure to the table
  local name=$1 seconds=$(($2 * TIMES)) began=$SECONDS
  shift 2
  echo "== $name (at most $seconds s)"
  timeout -k 5 "$seconds" "$@" 2>&1 | tee "$out/$name.log"
  echo "${PIPESTATUS[0]} $((SECONDS - began))" >"$out/$name.status"
}

if [ -n "$dry" ]; then
  where=(--device cpu --threads 1) configs=micro sizes=(--config micro --errors --seconds 0.001) queued=(--queued --steps 2)
  whole=char
else
  where=(--device cuda) configs=124m-b${batches//,/,124m-b} sizes=() queued=() whole=gpt2
fi
mapfile -t files < <(grep -lr --include="test_*.py" "mark\.gpu" tests)
part tests 100 "$PYTHON" -m pytest -m gpu -W default -p no:cacheprovider -q --junit-xml="$out/tests.xml" "${files[@]}"
part train 260 "$PYTHON" bench/train_gpt.py "${where[@]}" "${queued[@]}" --dtype "$dtype" --config "$configs" \
  --peers torch,torch-compile --modes "$modes" --json "$out/train.json"
part kernels 75 "$PYTHON" bench/kernels.py "${where[@]}" "${sizes[@]}" --dtype "$dtype" --json "$out/kernels.json"
part gradients 40 "$PYTHON" bench/gradients.py "${where[@]}" --config "$whole" --peers torch --json "$out/gradients.json"
echo
"$PYTHON" bench/gpu_table.py table "$out" | tee "$out/table.md"
exit "${PIPESTATUS[0]}"
