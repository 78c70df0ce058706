#!/bin/bash
# Tries `ray_shares.py` for real, on a Ray of one machine that ends with it.
#
#   python3 -m venv venv && venv/bin/pip install ray
#   PYTHON=venv/bin/python contrib/sweeps/try-ray.sh [EXPERIMENT.yaml]
#
# Needs `rehearsal` in the PATH. The merged results must be those of a run without Ray, byte for byte.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
EXPERIMENT=$(realpath "${1:-$HERE/../../scenarios/packing-vs-balance.yaml}")
PYTHON=${PYTHON:-python3}
SHARES=8
# A busy machine takes its time to start Ray.
export RAY_raylet_start_wait_time_s=${RAY_raylet_start_wait_time_s:-300}
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
"$PYTHON" "$HERE/ray_shares.py" "$EXPERIMENT" "$DIR/out" "$SHARES"
rehearsal compare "$EXPERIMENT" --out "$DIR/local" > /dev/null
for file in "$DIR"/local/*; do
    diff -r "$file" "$DIR/out/$(basename "$file")"
done
VERSION=$("$PYTHON" -c 'import ray; print(ray.__version__)')
echo "equal: $(find "$DIR/local" -type f | wc -l) files of $SHARES shares on Ray $VERSION and of one run here"
