#!/bin/bash
# Tries `slurm.sbatch` for real: a Slurm of one machine, made of its packages and gone afterwards.
#
#   apt-get install slurmctld slurmd slurm-client munge
#   contrib/sweeps/try-slurm.sh [EXPERIMENT.yaml]
#
# Needs root and `rehearsal` in the PATH. Every file lies in a temporary folder, the daemons listen on
# ports of their own, and each is ended by its number. The merged results must be those of a run on
# this machine, byte for byte.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
EXPERIMENT=$(realpath "${1:-$HERE/../../scenarios/packing-vs-balance.yaml}")
SHARES=8
DIR=$(mktemp -d)
STARTED=()
finish() {
    for pid in "${STARTED[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${STARTED[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$DIR"
}
trap finish EXIT
chmod 755 "$DIR"
mkdir "$DIR/state" "$DIR/spool" "$DIR/out"
head -c 128 /dev/urandom > "$DIR/munge.key"
chmod 600 "$DIR/munge.key"
cat > "$DIR/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$DIR/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$DIR/slurm.conf

munged --foreground --force --socket="$DIR/munge.socket" --key-file="$DIR/munge.key" \
    --pid-file="$DIR/munge.pid" --seed-file="$DIR/munge.seed" > "$DIR/munge.log" 2>&1 &
STARTED+=($!)
slurmctld -D > "$DIR/slurmctld.log" 2>&1 &
STARTED+=($!)
slurmd -D > "$DIR/slurmd.log" 2>&1 &
STARTED+=($!)
for _ in $(seq 60); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && break
    sleep 1
done
sinfo || { tail -n 20 "$DIR"/*.log; exit 1; }

cd "$DIR"
export EXPERIMENT OUT=$DIR/out
JOB=$(sbatch --parsable "$HERE/slurm.sbatch")
# The merge is a job that waits for all shares, as in the last lines of slurm.sbatch.
sbatch --wait --dependency="afterok:$JOB" --wrap "rehearsal merge $OUT $SHARES"
cat "$DIR"/slurm-*.out | tail -n 3

rehearsal compare "$EXPERIMENT" --out "$DIR/local" > /dev/null
for file in "$DIR"/local/*; do
    diff -r "$file" "$OUT/$(basename "$file")"
done
echo "equal: $(find "$DIR/local" -type f | wc -l) files of $SHARES shares on Slurm $(sinfo --version) and of one run here"
