#!/bin/bash
# Ray over a Slurm allocation, then one run: sbatch deploy/slurm.sh --config run.yaml key=value ...
# Every node is one Ray node with all its GPUs; the first is the head too, and the driver runs there. Slurm sends
# SIGTERM 300 s before the time limit: the run saves, leaves with 75, and the job puts itself back into the queue.
#SBATCH --job-name=t5
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=88
#SBATCH --mem=800G
#SBATCH --exclusive
#SBATCH --time=2-00:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=t5-%j.log
set -euo pipefail

verb=${T5_VERB:-pretrain}
venv=${T5_VENV:?set T5_VENV to the virtual environment with this package on a shared file system}
export PATH="$venv/bin:$PATH"

# One token for this allocation; srun hands the environment on, and no file is left behind.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=240 RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=1800
export RAY_TRAIN_COLLECTIVE_TIMEOUT_S=1800 RAY_LOG_TO_DRIVER=0 T5_LOG__FORMAT=json
# Patience with links that are cut; deploy/README.md says why.
export RAY_health_check_timeout_ms=20000 RAY_grpc_keepalive_timeout_ms=120000
export RAY_gcs_rpc_server_reconnect_timeout_s=120

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 10000))
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$port
resources=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_ON_NODE" --disable-usage-stats --block)

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --node-ip-address="${address%:*}" --port="$port" --dashboard-host=127.0.0.1 \
  --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${resources[@]}" &
steps=($!)
until ray health-check --address "$address" >/dev/null 2>&1; do
  kill -0 "${steps[0]}" || { echo "the head did not start" >&2; exit 1; }
  sleep 2
done
others=$((${#nodes[@]} - 1))
if ((others > 0)); then
  srun --overlap --nodes="$others" --ntasks="$others" --ntasks-per-node=1 --exclude="$head" \
    ray start --address="$address" "${resources[@]}" &
  steps+=($!)
fi

RAY_ADDRESS="$address" python -m "orchestrator.$verb" "$@" &
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
# A trapped signal ends `wait` early; the driver is still saving then.
while kill -0 "$driver" 2>/dev/null; do
  code=0
  wait "$driver" || code=$?
done

kill "${steps[@]}" 2>/dev/null || true
if ((code == 75)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
