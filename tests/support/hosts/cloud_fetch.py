"""Brings a study's records from the bucket: `python -m tests.support.hosts.cloud_fetch URL FOLDER`."""

import sys
from pathlib import Path

from search.storage import Remote, Replica

if __name__ == "__main__":
    url, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True)
    Replica(folder, Remote(url)).fetch()
