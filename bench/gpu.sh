#!/usr/bin/env bash
# All that needs a GPU, in under 8 minutes and without a network; prints one table last, to be kept as
# bench/results/h200.md:
#
#     bench/gpu.sh [--batches 4,64] [--dtype bfloat16] [--modes default] [--out FOLDER] [--dry-run]
#
# More batches (4,8,16,32,64) and modes of torch.compile (default,reduce-overhead) take longer: TIMES=3 has three times
# the time for each part. --dry-run does it all on the CPU with small models: what it prints is no measurement.
#
# A part that is done early leaves its time to the next.
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
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
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
mkdir -p "$out" && rm -f "$out"/*.json "$out"/*.xml "$out"/*.log "$out"/*.status "$out"/*.command || exit 1
"$PYTHON" bench/gpu_table.py check ${dry:+--dry-run} || exit 2

part() { # name, seconds at most, command: its output goes to a log, its failure to the table
  local name=$1 seconds=$(($2 * TIMES)) began=$SECONDS left=$((470 * TIMES - SECONDS))
  seconds=$((left < 10 ? 10 : left < seconds ? left : seconds))
  shift 2
  echo "$*" >"$out/$name.command"
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
part train 290 "$PYTHON" bench/train_gpt.py "${where[@]}" "${queued[@]}" --dtype "$dtype" --config "$configs" \
  --peers torch,torch-compile --modes "$modes" --json "$out/train.json"
part tests 100 "$PYTHON" -m pytest -m gpu -W default -p no:cacheprovider -q --junit-xml="$out/tests.xml" "${files[@]}"
part kernels 110 "$PYTHON" bench/kernels.py "${where[@]}" "${sizes[@]}" --dtype "$dtype" --json "$out/kernels.json"
part gradients 100 "$PYTHON" bench/gradients.py "${where[@]}" --config "$whole" --peers torch --json "$out/gradients.json"
echo
"$PYTHON" bench/gpu_table.py table "$out" | tee "$out/table.md"
exit "${PIPESTATUS[0]}"
