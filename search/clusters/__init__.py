"""Clusters to bring up: what every machine of one needs, beside `cluster.yaml` at the top."""
