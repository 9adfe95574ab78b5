"""A distributed architecture search for residual networks: `python -m search.run`."""
