"""The live display: a table on a terminal, plain lines in a file."""

import re
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from time import monotonic

import pytest
from rich.cells import cell_len
from rich.console import Console

from search.execution.progress import Progress, remaining
from search.optimize import Candidate
from search.records import TrialRecord, Trials, TrialState
from search.spec import TrialSpec
from tests.support import sample_study as sample


def running(trial: TrialRecord, epochs: int, seconds: float) -> TrialRecord:
    curve = {epoch: 60.0 - epoch for epoch in range(1, epochs + 1)}
    return replace(trial, state=TrialState.RUNNING, epochs=epochs, curve=curve, reason=None, seconds=seconds)


def snapshot(done: int, width: int = 2) -> Trials:
    trials = sample.trials()
    return Trials([*trials[:done], *(running(trial, 4, 1.0) for trial in trials[done : done + width])])


def rendered(trials: Sequence[TrialRecord], width: int = 80, waiting: tuple[int, ...] = ()) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        progress = Progress(Console(file=StringIO()), "digits", 12)
        progress.update(Trials(trials), 24, waiting)
        console.print(progress.screen(61.0))
    return capture.get()


def test_the_screen_tells_what_is_done_best_and_running() -> None:
    text = rendered(snapshot(15, width=3))
    assert "15 of 24 trials · 3 running · 7 stopped early · 1 failed · 1 diverged" in text
    assert "1 min 01 s elapsed, about" in text
    assert re.search(r"best so far 1\.0 %  trial 10: 20-layer v2 identity, lr 0\.142", text)
    assert re.search(r"^ +15  14-layer v2 identity, lr 0\.378, weight d.* +4/12 +56\.0 % *$", text, re.MULTILINE)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(cell_len, rendered(snapshot(15, width=3), width).splitlines())) <= width


def test_the_screen_before_anything_and_after_everything() -> None:
    assert "no result yet" in rendered([])
    assert "0 of 24 trials" in rendered([])
    assert "about 0.0 s left" in rendered(sample.trials())


def test_many_running_trials_are_counted_not_listed() -> None:
    lines = rendered(snapshot(2, width=20)).splitlines()
    assert len(lines) < 16
    assert "and 12 more" in lines[-1]


def test_remaining_time_is_shared_by_the_trials_that_run() -> None:
    ended = [replace(trial, seconds=seconds) for trial, seconds in zip(sample.trials()[:2], (8.0, 12.0), strict=True)]
    two = [running(trial, 4, seconds) for trial, seconds in zip(sample.trials()[2:4], (4.0, 30.0), strict=True)]
    assert remaining(Trials(), 24) is None
    assert remaining(Trials(two), 24) is None
    # the mean is 10 s: 6 trials to come take 60 s, the rest of the two that run 6 s and none, by two at a time
    assert remaining(Trials([*ended, *two]), 10) == pytest.approx(33.0)
    assert remaining(Trials(ended), 2) == 0.0


def test_a_terminal_is_redrawn_at_a_bounded_rate() -> None:
    file = StringIO()
    console = Console(file=file, width=80, force_terminal=True, force_interactive=True, _environ={})
    start = monotonic()
    with Progress(console, "digits", 12) as progress:
        for _ in range(2000):
            progress.update(snapshot(5), 24)
        progress.update(sample.trials(), 24)
    redraws = file.getvalue().count("elapsed")
    assert 1 <= redraws <= 4 * (monotonic() - start) + 3
    assert "24 of 24 trials" in file.getvalue()  # the last snapshot stays on the screen


def test_a_file_gets_a_line_for_each_trial_that_ends() -> None:
    file = StringIO()
    with Progress(Console(file=file, width=80), "digits", 12) as progress:
        progress.update(Trials(), 24)
        for done in (0, 1, 1, 6, 24, 24):
            progress.update(snapshot(done), 24)
    lines = file.getvalue().splitlines()
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()
    assert [int(line.split("trial ")[1].split()[0]) for line in lines] == list(range(24))
    assert lines[0].startswith("[1/24] trial 0 complete after 12 epochs, 3.8 %: 8-layer v1 identity")
    assert lines[1].startswith("[2/24] trial 1 pruned after 6 epochs, 8.0 %: 14-layer v2 none")
    assert [n for n, line in enumerate(lines) if line.endswith("new best")] == [0, 5, 10]
    assert "(RuntimeError: <b>unexpected</b> | shape 4x4 & more)" in lines[13]


def test_trials_done_before_are_summed_up_in_one_line() -> None:
    file = StringIO()
    with Progress(Console(file=file), "digits", 12) as progress:
        progress.update(snapshot(12), 24)
        progress.update(snapshot(13), 24)
    first, second = file.getvalue().splitlines()
    assert first.startswith("digits: 12 of 24 trials are done, best so far 1.0 %: 20-layer v2 identity")
    assert second.startswith("[13/24] trial 12 pruned")


def test_proposals_beyond_the_limits_are_no_trials() -> None:
    refused = replace(
        sample.trials()[0], number=24, state=TrialState.INFEASIBLE, epochs=0, curve={}, violation=0.5, seconds=None
    )
    file = StringIO()
    with Progress(Console(file=file, width=80), "digits", 12) as progress:
        progress.update(Trials([refused]), 24)
        progress.update(Trials([refused, *snapshot(1)]), 24)
    assert file.getvalue().startswith("[1/24] trial 0 complete")
    assert file.getvalue().count("\n") == 1
    console = Console(file=StringIO(), width=80, force_terminal=True, force_interactive=True, _environ={})
    with Progress(console, "digits", 12) as progress:
        progress.update(Trials([refused, *snapshot(3)]), 24)
        progress.update(Trials([refused, *snapshot(4)]), 24)
    assert isinstance(console.file, StringIO)
    assert "4 of 24 trials · 2 running · 2 stopped early · 1 beyond the limits" in console.file.getvalue()


def test_trials_that_wait_do_not_run() -> None:
    trials = snapshot(15, width=3)  # 15, 16 and 17 run
    text = rendered(trials, waiting=(16, 17))
    assert "15 of 24 trials · 1 running · 2 waiting · 7 stopped early" in text
    assert re.findall(r"^ +(\d+)  \d+-layer", text, re.MULTILINE) == ["15"]
    ended = [replace(trial, seconds=10.0) for trial in sample.trials()[:2]]
    # two to come of 10 s each, and 6 s of one that runs: what waits may never go on, and nobody works on it
    open_ = [running(trial, 4, 4.0) for trial in sample.trials()[2:4]]
    assert remaining(Trials([*ended, *open_]), 6, waiting=[3]) == pytest.approx(26.0)


def test_a_file_gets_a_line_for_each_wait() -> None:
    file = StringIO()
    with Progress(Console(file=file, width=80), "digits", 12) as progress:
        progress.update(Trials(), 24)
        for waiting in ([0], [0], [], [0]):
            progress.update(Trials([running(sample.trials()[0], 3, 1.0)]), 24, waiting)
        progress.update(Trials([running(sample.trials()[0], 9, 1.0)]), 24, [0])
        progress.update(Trials([sample.trials()[0]]), 24)
    lines = file.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "trial 0 paused after 3 epochs", "trial 0 paused after 9 epochs", "[1/24] trial 0 complete after 12 epochs"
    ]  # fmt: skip


def test_a_dumb_terminal_gets_plain_lines() -> None:
    file = StringIO()
    with Progress(Console(file=file, force_terminal=True, _environ={"TERM": "dumb"}), "digits", 12) as progress:
        progress.update(Trials(), 24)
        progress.update(snapshot(1), 24)
    assert file.getvalue().startswith("[1/24] trial 0 complete")


def test_an_error_inside_leaves_the_terminal_usable() -> None:
    file = StringIO()
    console = Console(file=file, width=80, force_terminal=True, force_interactive=True, _environ={})

    def interrupted() -> None:
        with Progress(console, "digits", 12) as progress:
            progress.update(snapshot(1), 24)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor is shown again


CANDIDATES = [Candidate(3, TrialSpec.from_flat(sample.trials()[3].params)), Candidate(7, TrialSpec(), "published")]


def training(number: int, finalist: int, seed: int, epochs: int, error: float | None = None) -> TrialRecord:
    state = TrialState.RUNNING if error is None else TrialState.COMPLETE
    params = {**CANDIDATES[finalist == 7].spec.flat(), "train.seed": seed}
    test = None if error is None else {"error": error, "loss": 0.1}
    return TrialRecord(number, state, params, epochs, {}, seconds=10.0, finalist=finalist, test=test)


def test_a_file_gets_a_line_for_each_training_of_the_finals() -> None:
    file = StringIO()
    first = training(0, 3, 0, 12, 2.5)
    failed = replace(training(2, 3, 1, 4), state=TrialState.FAILED, reason="its worker died, 4 times")
    with Progress(Console(file=file, width=80), "digits", 12, CANDIDATES) as progress:
        progress.update(Trials([first, training(1, 7, 0, 3)]), 4)
        progress.update(Trials([first, training(1, 7, 0, 12, 3.25), failed]), 4)
    opening, tested, lost = file.getvalue().splitlines()
    assert opening == "digits: 2 finalists trained on train + validation, then tested: 4 trainings, 1 are done"
    assert tested.startswith("[2/4] published, seed 0: 3.2 % test error: 20-layer v1")
    assert lost.startswith("[3/4] finalist 3, seed 1: failed (its worker died, 4 times): ")


def test_the_screen_of_the_finals_tells_what_each_finalist_has() -> None:
    progress = Progress(Console(file=StringIO()), "digits", 12, CANDIDATES)
    runs = [training(0, 3, 0, 12, 2.0), training(1, 7, 0, 12, 3.0), training(2, 3, 1, 12, 3.0), training(3, 7, 1, 5)]
    progress.update(Trials(runs), 6)
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(progress.screen(61.0))
    head, _, parts, _, third, published = capture.get().splitlines()
    # 10 s each: two to come, and nothing is left of the one that runs
    assert re.search(r"^digits: finals +1 min 01 s elapsed, about 20 s left$", head)
    assert parts.strip() == "3 of 6 trainings · 1 running"
    assert re.search(r"^ +3 .* 2 +2\.50 % \+- 0\.71 *$", third)
    assert re.search(r"^ +published .* 1 +3\.00 % +5/12 *$", published)


def test_a_notebook_gets_one_output_that_is_redrawn_twice_a_second() -> None:
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell  # not a dependency
    from IPython.utils.capture import capture_output

    InteractiveShell.instance()
    start = monotonic()
    try:
        with capture_output() as captured, Progress(Console(force_jupyter=True), "digits", 12) as progress:
            for _ in range(2000):
                progress.update(snapshot(5), 24)
            progress.update(sample.trials(), 24)
    finally:
        InteractiveShell.clear_instance()
    first, *rest = captured._outputs
    assert 1 <= len(rest) <= (monotonic() - start) / 0.5 + 1
    assert {output["transient"]["display_id"] for output in rest} == {first["transient"]["display_id"]}
    assert [output["update"] for output in (first, *rest)] == [False] + [True] * len(rest)
    assert "24 of 24 trials" in rest[-1]["data"]["text/html"]
    assert "font-weight: bold" in rest[-1]["data"]["text/html"]
    assert "24 of 24 trials" in rest[-1]["data"]["text/plain"]
    assert captured.stdout == ""
