# Sourced by every shell on a machine of a cluster, and so inherited by all that Ray starts there.
export PATH="$HOME/venv/bin:$PATH"
export PYTHONPATH="$HOME/project"
export RAY_AUTH_MODE=token # a machine or a job without ~/.ray/auth_token is refused
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000 # answers on the head, where studies are driven
export RAY_USAGE_STATS_ENABLED=0 DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true

# A machine whose link is cut is given up after about 20 seconds; with Ray's own settings it takes a minute.
export RAY_health_check_period_ms=2000 RAY_health_check_timeout_ms=5000 RAY_health_check_failure_threshold=3
# So long a machine waits for a head that is gone before it ends, with its trials.
export RAY_gcs_rpc_server_reconnect_timeout_s=20

unset OMP_NUM_THREADS # which the launcher sets to 1: each trial shall have the threads of its own cores
# The launcher's choice, version 2 of the autoscaler, starts no on-demand machine where there is no spot; of a fixed list it
# leaves out the last machine, and brings back none that died (Ray 2.60; docs/decisions/0014).
export RAY_enable_autoscaler_v2=0
export RAY_AUTOSCALER_UTILIZATION_SCORER=search.cluster.scorer.score
