#!/bin/sh
# An MLflow server for the head of a cluster, on loopback alone: start_mlflow.sh ARTIFACTS
# One that runs already is replaced. It ends with the cluster: when Ray's gcs_server is gone, it goes.
set -eu
artifacts=$1
folder=$HOME/mlflow
mkdir -p "$folder"

if [ -f "$folder/pid" ] && grep -qs start_mlflow "/proc/$(cat "$folder/pid")/environ"; then
  kill -- "-$(cat "$folder/pid")" || true
  while curl -s -o /dev/null http://127.0.0.1:5000/health; do sleep 0.2; done
fi

# MLflow's own job queue is eight processes for features that no study uses.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false STARTED_BY=start_mlflow
setsid nohup sh -c '
  echo $$ > "$1/pid"
  mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri "sqlite:///$1/mlflow.db" \
    --artifacts-destination "$2" &
  while kill -0 $! && pgrep -u "$(id -u)" -x gcs_server > /dev/null; do sleep 2; done
  kill -- -$$
' start_mlflow "$folder" "$artifacts" > "$folder/server.log" 2>&1 < /dev/null &

tries=0
until curl -sf -o /dev/null http://127.0.0.1:5000/health; do
  tries=$((tries + 1))
  if [ "$tries" -gt 120 ]; then
    echo "MLflow does not answer; its last words:" >&2
    tail -n 20 "$folder/server.log" >&2
    exit 1
  fi
  sleep 1
done
