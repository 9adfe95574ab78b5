"""Ray Tune spreads the trials of a study over the machines that it has."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from search import host, scratch
from search.ledger import Asked
from search.recorder import Recorder
from search.study_spec import StudySpec

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory


def tune_until_done(
    recorder: Recorder,
    config: Callable[[Asked, bool], dict[str, Any]],
    spec: StudySpec,
    share: host.Share,
    closed: Callable[[], bool],
    show: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Ray Tune spreads trials over the cluster until there are no more or the study is `closed`; Ray is connected."""
    from ray import tune

    from search.restarts import Restarts, living
    from search.searcher import Closing, Faults, LedgerScheduler, LedgerSearcher, Watcher
    from search.trial import TrialWorker

    logging.getLogger("ray.tune").setLevel(
        logging.CRITICAL
    )  # what fails is recorded with its trial, and told at the end
    # All workers start together. One whose trial waits for a whole GPU must come before trials that take parts of it.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1" if 0 < share.gpus < 1 else str(share.concurrent)
    faults = Faults()
    searcher = LedgerSearcher(recorder, config, share.concurrent, closed, faults, Restarts(living), say)
    with scratch.folder() as folder:  # Tune insists on writing; nothing of it is ever read again
        tuner = tune.Tuner(
            tune.with_resources(TrialWorker, lambda config: _held(share, config)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=LedgerScheduler(recorder, faults),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial-{trial.config['number']:04d}",
                trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:04d}",
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=str(folder),
                verbose=0,
                callbacks=[Watcher(searcher, show, faults)],
                stop=Closing(closed, faults),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_at_end=False
                ),  # a worker writes its own after each epoch
                failure_config=tune.FailureConfig(max_failures=0),  # a trial goes on as another of Tune's
            ),
        )
        try:
            tuner.fit()
        except Exception:  # of any kind, passed on: by what was ours at first, if Tune has raised that as its own
            faults.surface()
            raise
    faults.surface()


def _held(share: host.Share, config: Mapping[str, Any]) -> "PlacementGroupFactory":
    # Equal requests compare equal, so trials of one size pass their workers on; one that is tried alone gets its own.
    from ray.tune import PlacementGroupFactory

    return PlacementGroupFactory([{"CPU": share.cpus, "GPU": config["gpus"]}])
