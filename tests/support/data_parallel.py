"""A study whose trials are trained by two processes each, on cores: `python -m tests.support.data_parallel FOLDER`."""

import sys
from pathlib import Path

import ray
from rich.console import Console

from search.activity import Activity
from search.data import prepare
from search.execution import Interrupt, Session
from search.spec import Scheduler, SearchSpec, Share, StudySpec
from tests.support.simulated import Setting, opened

EPOCHS = 5


def main(folder: Path) -> None:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    spec = StudySpec.model_validate({"name": "study", "data": {"name": "digits"}})
    space = {"net.depth": [14], "train.lr": [0.05, 0.1], "train.crop_padding": [1]}
    setting = Setting(SearchSpec(trials=2, scheduler=Scheduler.NONE), EPOCHS, space)
    recorder = opened(setting, folder)
    recorder.trials = folder / "trials"
    share = Share(cpus=2.0, gpus=0.0, concurrent=1, processes=2)
    session = Session(spec, prepare(spec.data), recorder.ledger, Interrupt(), Activity(), share, lambda: None, dict)
    session.run(recorder, Console())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
