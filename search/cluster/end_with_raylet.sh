#!/bin/sh
# Ray's agents outlive a raylet that ends by itself, as on a worker whose head was taken down (Ray 2.60), and keep their
# ports open. From now on they end with the raylet that runs here.
set -eu
raylet=$(pgrep -n -u "$(id -u)" -x raylet)
setsid nohup sh -c '
  while kill -0 "$1"; do
    now=$(pgrep -P "$1") && started=$now
    sleep 2
  done
  kill $started
  sleep 3
  kill -9 $started # one of them may hang in its own handler of the first signal
' end_with_raylet "$raylet" > /dev/null 2>&1 < /dev/null &
