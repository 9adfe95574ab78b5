"""The live display: a table on a terminal, plain lines in a file."""

import re
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from time import monotonic

import pytest
from rich.cells import cell_len
from rich.console import Console

from search.execution.progress import Progress, remaining, share_over
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


def rendered(
    trials: Sequence[TrialRecord],
    width: int = 80,
    waiting: tuple[int, ...] = (),
    total: int = 24,
    candidates: Sequence[Candidate] = (),
) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        progress = Progress(Console(file=StringIO()), "digits", 12, candidates)
        progress.update(Trials(trials), total, waiting)
        console.print(progress.screen(61.0))
    return capture.get()


def test_the_screen_tells_what_is_done_best_running_and_waiting() -> None:
    text = rendered(snapshot(15, width=3), 100, waiting=(16, 17))
    assert "15 of 24 trials · 1 running · 2 waiting · 7 stopped early · 1 failed · 1 diverged" in text
    assert "1 min 01 s elapsed" in text
    assert re.search(r"best so far 1\.0 %  trial 10: 20-layer v2 identity, lr 0\.142", text)
    assert re.findall(r"^ +(\d+)  \d+-layer", text, re.MULTILINE) == ["15"]
    assert re.search(r"^ +15  14-layer v2 identity, lr 0\.378, weight d.* +4/12 +56\.0 % *$", text, re.MULTILINE)
    failed = replace(sample.trials()[0], state=TrialState.FAILED, epochs=0, curve={}, reason="no memory")
    assert re.search(r"1 of 24 trials[^$]*no result yet", rendered([failed]))


def test_until_the_first_epoch_has_ended_the_workers_start() -> None:
    first = [replace(trial, epochs=0, curve={}) for trial in snapshot(0)]
    said = [rendered(trials).splitlines()[1].strip() for trials in ([], first)]
    assert said == ["starting the workers", "2 workers starting, and training the first epoch"]
    assert "0 of 24 trials · 2 running" in rendered(snapshot(0))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(cell_len, rendered(snapshot(15, width=3), width).splitlines())) <= width


def test_many_running_trials_are_counted_not_listed() -> None:
    lines = rendered(snapshot(2, width=20)).splitlines()
    assert len(lines) < 16
    assert "and 12 more" in lines[-1]


def test_the_gain_of_another_hour_stands_below_the_best_and_ends_plain_lines() -> None:
    trials = sample.trials()
    wrong = sorted(round(t.curve[12] * 2.87) for t in trials if t.state is TrialState.COMPLETE)
    assert wrong == [3, 4, 6, 6, 9, 11, 11, 11, 12, 12, 14]  # of 287 images
    # an hour after two: 2/3 of (1/3 + 2/9 + 3/81 + 2/243) images, and 3 images above which 1/27 lie
    gain = str(trials.expected_gain(7200))
    file = StringIO()
    with Progress(Console(file=file, width=100), "digits", 12) as progress:
        progress.update(trials, 24, gain="of before")
        progress.update(trials, 24, gain=gain)
        console = Console(file=StringIO(), width=100)
        console.print(progress.screen(61.0))
    last = "another hour is expected to bring 0.14 points (one in ten: more than 1.05)"
    assert file.getvalue().splitlines()[-1] == last
    assert [line.strip() for line in console.file.getvalue().splitlines()][-1] == last


def test_work_is_counted_in_epochs_and_what_waits_is_not_left() -> None:
    ended, (half, third) = (
        sample.trials()[:2],
        [running(t, n, 1.0) for t, n in zip(sample.trials()[2:4], (6, 4), strict=True)],
    )
    assert share_over(Trials(), 10, 12) == 0.0
    assert share_over(Trials([*ended, half, third]), 10, 12) == pytest.approx((2 + 6 / 12 + 4 / 12) / 10)
    assert share_over(Trials([*ended, half, third]), 10, 12, waiting=[3]) == pytest.approx((2 + 6 / 12 + 1) / 10)
    assert share_over(Trials(ended), 2, 12) == 1.0


def test_the_rest_is_as_fast_as_what_was_done() -> None:
    assert remaining(30.0, 0.5, 0.25) == pytest.approx(60.0)  # a quarter took 30 s, and two are left
    assert remaining(30.0, 1.0, 0.25) == 0.0
    assert remaining(30.0, 0.25, 0.25) is None


def test_the_bar_never_goes_back() -> None:
    """A trial that has waited after 3 of 12 epochs goes on: the work is not less than it was."""
    first = sample.trials()[0]
    progress = Progress(Console(file=StringIO()), "digits", 12)
    shares: list[float] = []
    for epochs, waiting in ((1, []), (3, [0]), (4, []), (12, [])):
        progress.update(Trials([running(first, epochs, 1.0)]), 2, waiting)
        shares.append(progress._over)
    assert shares == pytest.approx([1 / 24, 1 / 2, 1 / 2, 1 / 2])


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


def lines(*updates: tuple[Sequence[TrialRecord], Sequence[int]], candidates: Sequence[Candidate] = ()) -> list[str]:
    """What a dumb terminal gets of snapshots, each with the numbers of those that wait."""
    file = StringIO()
    console = Console(file=file, width=80, force_terminal=True, _environ={"TERM": "dumb"})
    with Progress(console, "digits", 12, candidates) as progress:
        for trials, waiting in updates:
            progress.update(Trials(trials), 4 if candidates else 24, waiting)
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()
    return file.getvalue().splitlines()


def test_a_file_gets_a_line_for_each_trial_that_ends() -> None:
    told = lines(((), ()), *((snapshot(done), ()) for done in (0, 1, 1, 6, 24, 24)))
    assert [int(line.split("trial ")[1].split()[0]) for line in told] == list(range(24))
    assert told[0].startswith("[1/24] trial 0 complete after 12 epochs, 3.8 %: 8-layer v1 identity")
    assert told[1].startswith("[2/24] trial 1 pruned after 6 epochs, 8.0 %: 14-layer v2 none")
    assert [n for n, line in enumerate(told) if line.endswith("new best")] == [0, 5, 10]
    assert "(RuntimeError: <b>unexpected</b> | shape 4x4 & more)" in told[13]


def test_trials_done_before_are_summed_up_in_one_line() -> None:
    first, second = lines((snapshot(12), ()), (snapshot(13), ()))
    assert first.startswith("digits: 12 of 24 trials are done, best so far 1.0 %: 20-layer v2 identity")
    assert second.startswith("[13/24] trial 12 pruned")


def test_proposals_beyond_the_limits_are_no_trials() -> None:
    refused = replace(
        sample.trials()[0], number=24, state=TrialState.INFEASIBLE, epochs=0, curve={}, violation=0.5, seconds=None
    )
    (line,) = lines(([refused], ()), ([refused, *snapshot(1)], ()))
    assert line.startswith("[1/24] trial 0 complete")
    assert "4 of 24 trials · 2 running · 2 stopped early · 1 beyond the limits" in rendered([refused, *snapshot(4)])


def test_a_file_gets_a_line_for_each_wait() -> None:
    first = sample.trials()[0]
    waits = [([running(first, 3, 1.0)], waiting) for waiting in ([0], [0], [], [0])]
    told = lines(((), ()), *waits, ([running(first, 9, 1.0)], [0]), ([first], ()))
    assert [line.split(",")[0] for line in told] == [
        "trial 0 paused after 3 epochs", "trial 0 paused after 9 epochs", "[1/24] trial 0 complete after 12 epochs"
    ]  # fmt: skip


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
    first = training(0, 3, 0, 12, 2.5)
    failed = replace(training(2, 3, 1, 4), state=TrialState.FAILED, reason="its worker died, 4 times")
    later = [first, training(1, 7, 0, 12, 3.25), failed]
    opening, tested, lost = lines(([first, training(1, 7, 0, 3)], ()), (later, ()), candidates=CANDIDATES)
    assert opening == "digits: 2 finalists trained on train + validation, then tested: 4 trainings, 1 are done"
    assert tested.startswith("[2/4] published, seed 0: 3.2 % test error: 20-layer v1")
    assert lost.startswith("[3/4] finalist 3, seed 1: failed (its worker died, 4 times): ")


def test_the_screen_of_the_finals_tells_what_each_finalist_has() -> None:
    runs = [training(0, 3, 0, 12, 2.0), training(1, 7, 0, 12, 3.0), training(2, 3, 1, 12, 3.0), training(3, 7, 1, 5)]
    head, _, parts, _, third, published = rendered(runs, 100, total=6, candidates=CANDIDATES).splitlines()
    assert re.search(r"^digits: finals +1 min 01 s elapsed$", head)
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
                if progress.is_due:
                    progress.update(snapshot(5), 24)
            progress.update(sample.trials(), 24)
    finally:
        InteractiveShell.clear_instance()
    first, *rest = captured._outputs
    assert 1 <= len(rest) <= (monotonic() - start) / 0.5 + 2
    assert {output["transient"]["display_id"] for output in rest} == {first["transient"]["display_id"]}
    assert [output["update"] for output in (first, *rest)] == [False] + [True] * len(rest)
    assert "24 of 24 trials" in rest[-1]["data"]["text/html"]
    assert "font-weight: bold" in rest[-1]["data"]["text/html"]
    assert "24 of 24 trials" in rest[-1]["data"]["text/plain"]
    assert captured.stdout == ""
