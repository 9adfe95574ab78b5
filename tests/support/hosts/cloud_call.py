"""Prints what the fake cloud answers: `python -m tests.support.hosts.cloud_call SERVICE METHOD '{"Argument": ...}'`."""

import json
import sys

import boto3

if __name__ == "__main__":
    service, method, arguments = sys.argv[1:]
    answer = getattr(boto3.client(service), method)(**json.loads(arguments))
    sys.stdout.write(json.dumps(answer, default=str) + "\n")
