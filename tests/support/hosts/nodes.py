"""`python -m tests.support.hosts.nodes COUNT SECONDS`: the living machines as JSON, once they are COUNT."""

import json
import sys
import time

import ray


def main() -> None:
    count, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        if len(alive) == count or time.monotonic() > end:
            break
        time.sleep(0.2)
    told = [
        {"host": node["NodeManagerHostname"], "resources": node["Resources"], "labels": node["Labels"]}
        for node in alive
    ]
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
