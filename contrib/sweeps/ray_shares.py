"""Runs the shares of an experiment on a Ray cluster and merges them.

    python ray_shares.py EXPERIMENT.yaml OUT SHARES

OUT must be a folder that all machines share. Lost tasks are run again; a share that is there already
is not.
"""

import subprocess
import sys

import ray

experiment, out, shares = sys.argv[1], sys.argv[2], int(sys.argv[3])
ray.init(include_dashboard=False)


@ray.remote(num_cpus=1, max_retries=3, retry_exceptions=True)
def share(index):
    command = ["rehearsal", "compare", experiment, "--threads", "1"]
    command += ["--shard", f"{index}/{shares}", "--out", out]
    subprocess.run(command, check=True)
    return index


waiting = [share.remote(index) for index in range(shares)]
while waiting:
    done, waiting = ray.wait(waiting)
    for index in ray.get(done):
        print(f"share {index} is done, {len(waiting)} left", flush=True)
subprocess.run(["rehearsal", "merge", out, str(shares)], check=True)
