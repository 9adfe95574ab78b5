"""What is asked of the trials of a study as a whole."""

from search.records import Trials, TrialState
from tests.support import sample_study as sample


def test_a_frame_has_a_row_a_trial_and_a_column_a_parameter() -> None:
    frame = sample.trials().to_frame()
    assert len(frame) == 24
    assert list(frame.columns) == [
        *("state", "val_error", "epochs", "params_count", "macs", "seconds", "images_per_s", "reason"),
        *("net.depth", "net.unit", "net.version", "net.shortcut", "train.lr", "train.weight_decay", "net.gate_bias"),
    ]
    complete = frame[frame["state"] == "complete"]
    best = complete.sort_values("val_error").iloc[0]
    assert (best.name, best["net.depth"], best["net.version"]) == (10, 20, "v2")
    assert frame["net.gate_bias"].isna().sum() == sum("net.gate_bias" not in sample.params(n) for n in range(24))


def test_nothing_follows_from_no_trials() -> None:
    none = Trials()
    assert none.best is None
    assert (none.ranked(), none.finished, none.at(1)) == ((), 0, [])
    assert none.to_frame().empty
    assert none.counts() == dict.fromkeys((state.value for state in TrialState if state != "running"), 0)
