"""What the command line prints without training, and which of flag, environment, file and default wins."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search import cli
from search.errors import InputError
from search.run import main
from search.spec import shipped
from tests.support.fixtures import alone  # noqa: F401
from tests.support.study_process import outcome

pytestmark = pytest.mark.usefixtures("alone")
PAPERS = json.loads((Path(__file__).parent / "support" / "papers.json").read_text())
FILE = "data: cifar10\nnet: {version: v1}\ntrain: {epochs: 4}\nspace: {net.depth: [20, 110]}\n"


def dry(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], str]:
    """The resolved study that a verbose dry run prints, and what it says of it, but for what it has measured."""
    assert main([*arguments, "--dry-run", "--verbose"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert not Path("results").exists(), "a dry run leaves nothing"
    said, _, resolved = out.partition("\nstudy:\n")
    measured, rest = re.split(r"\n(?:space|rows): (?=\d|at least)", said, maxsplit=1)
    assert re.search(r"\ntime on this machine: about .*(minute|hour|day).*\nestimate: ", measured)
    return yaml.safe_load(resolved), f"{rest}\n"


def params_and_macs(text: str, word: str) -> tuple[int, int]:
    match = re.search(rf"{word} network: ([\d,]+) parameters, ([\d,]+) MACs", text)
    assert match
    return int(match[1].replace(",", "")), int(match[2].replace(",", ""))


def published(depth: int) -> tuple[int, int]:
    (found,) = (
        (row["params"], row["macs"])
        for row in PAPERS["derived_cifar"]
        if row["network"] == f"ResNet-{depth}"
        and (row["version"], row["block"], row["shortcut"], row["classes"]) == (1, "basic", "A", 10)
    )
    return found


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition(": ")[0].partition(" --scale ")[0] for line in lines]
    assert names == [*sorted(shipped()), "recipe rsb_a1", "recipe rsb_a2", "recipe rsb_a3", "recipe torchvision_v2"]
    assert [line for line in lines if line.startswith("degradation --scale cpu | gpu-hour | smoke: ")]
    assert all(len(line.partition(": ")[2]) > 20 for line in lines)


LISTED = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *sys.modules))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["run", "--help"], 0),
        (["run", "--list"], 0),
        (["run", "--trails", "3"], 2),
        (["run", "--set", "data=cifar1"], 2),
        *((command, status) for name in ("report", "export", "predict", "ui") for command, status in (
            ([name, "--help"], 0), ([name, "--nonsense"], 2)
        )),
    ],
)  # fmt: skip
def test_what_needs_no_network_loads_no_framework(flags: list[str], status: int) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", LISTED, f"search.{flags[0]}", *flags[1:]], capture_output=True, text=True
    )
    assert asked.returncode == status, asked.stderr
    loaded = asked.stdout.rpartition("loaded: ")[2].split()
    assert "search.cli" in loaded
    assert not {"torch", "ray", "mlflow", *(() if "--set" in flags else ("optuna",))} & set(loaded)


INSTALLED = "import sys; sys.argv[0] = 'resnet-search'; from search.run import installed; sys.exit(installed())"


def resnet_search(*arguments: str, **environment: str) -> str:
    """What the installed command prints."""
    shell = {**os.environ, **environment}
    asked = subprocess.run([sys.executable, "-c", INSTALLED, *arguments], env=shell, capture_output=True, text=True)
    assert (asked.returncode, outcome(asked.stderr)) == (0, "")
    return asked.stdout


def test_the_installed_command() -> None:
    """Its help names the commands, and each of them has a help of its own, with flags in groups where they are many."""
    named = re.findall(r"^  (\w+) +\w", resnet_search("--help"), re.MULTILINE)
    assert named == ["run", "report", "export", "predict", "ui"]
    for command in named:
        assert resnet_search(command, "--help").startswith(f"usage: resnet-search {command} [-h]")
    assert (
        resnet_search("run", "--version") == resnet_search("--version") == f"resnet-search {version('resnet-search')}\n"
    )
    assert resnet_search("--list") == resnet_search("run", "--list")
    options = resnet_search("run", "--help").partition("\noptions:\n")[2]
    groups = {title: set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)) for title, text in zip(
        *[iter(re.split(r"^(\S.*):$", options, flags=re.MULTILINE)[1:])] * 2, strict=True
    )}  # fmt: skip
    assert all(3 <= len(flags) <= 10 for flags in groups.values()), groups
    assert {"--trials", "--set"} <= groups["the study"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("re", {"report"}),
        ("cif", {"cifar10", "cifar100"}),
        ("run mi", {"mine", "mine.yaml"}),
        ("cifar10 --scheduler ", {"asha", "none"}),
        ("run degradation --scale ", {"cpu", "gpu-hour", "smoke"}),
        ("run --set search.s", {"search.sampler=", "search.scheduler=", "search.seed=", "search.storage="}),
        ("--set space.net.depth", {"space.net.depth="}),
        ("report ", {"mine"}),
        ("export mine --t", {"--to", "--trial"}),
        ("ui --no", {"--no-browser"}),
    ],
)
def test_a_shell_completes(typed: str, offered: set[str]) -> None:
    Path("mine.yaml").write_text(FILE)
    Path("results/mine").mkdir(parents=True)
    Path("results/mine/study.yaml").write_text(f"name: mine\n{FILE}")
    line = f"resnet-search {typed}"
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1"}
    assert resnet_search(**asked, _ARGCOMPLETE_IFS="\n", _ARGCOMPLETE_STDOUT_FILENAME="offered") == ""
    assert set(map(str.strip, Path("offered").read_text().splitlines())) == offered


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in entries if one["kind"] == "recipe"} >= {"rsb_a1", "torchvision_v2"}
    listed = {one["name"]: one["scales"] for one in entries if one["kind"] == "study"}
    assert listed.keys() == shipped().keys()
    assert listed["degradation"] == ["cpu", "gpu-hour", "smoke"]
    Path("mine.yaml").write_text(FILE)
    assert main(["mine.yaml", "--dry-run", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [(facts[end]["parameters"], facts[end]["macs"]) for end in ("smallest", "largest")] == [
        published(20), published(110)
    ]  # fmt: skip
    assert facts["study"]["train"]["epochs"] == 4
    assert 0 < facts["seconds"][0] < facts["seconds"][1]


def test_dry_run_of_digits(capsys: pytest.CaptureFixture[str]) -> None:
    study, text = dry(capsys)
    assert study["name"] == "digits"
    assert study["search"]["trials"] == 24
    assert study == yaml.safe_load(yaml.safe_dump(study))
    # 3 depths, 5 versions, 5 shortcuts
    assert text.startswith("75 combinations of choices, times the continuous train.lr and train.weight_decay\n")
    assert "  net.depth: 8 | 14 | 20\n" in text
    # depth 8 on 8 x 8 x 1, by hand: 9 (16 + 2 16 16 + 16 32 + 32 32 + 32 64 + 64 64) weights of convolutions,
    # 2 (3 16 + 2 32 + 2 64) of normalisations, 650 of the classifier; 64, 16 and 4 places in the three stages
    convolutions = 9 * (16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    macs = 9 * (64 * (16 + 2 * 256) + 16 * (512 + 1024) + 4 * (2048 + 4096)) + 640
    assert params_and_macs(text, "smallest") == (convolutions + 480 + 650, macs)
    example = text.partition("example trial:\n")[2]
    assert re.search(r"net\.depth: (8|14|20)\n", example)
    assert re.search(r"train\.lr: 0\.\d+", example)


def test_smallest_and_largest_are_the_published_networks(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(FILE)
    _, text = dry(capsys, "mine.yaml")
    assert text.startswith("2 combinations of choices\n")
    assert params_and_macs(text, "smallest") == published(20) == (269_722, 40_551_040)
    assert params_and_macs(text, "largest") == published(110) == (1_727_962, 252_887_680)
    _, text = dry(capsys, "mine.yaml", "--set", "space.net.depth={low: 20, high: 110, step: 6}")
    assert text.startswith("16 combinations")
    assert params_and_macs(text, "largest") == published(110)


def test_dry_run_with_long_lines_and_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed can be saved and read back: no line is broken, no bracket is taken for markup."""
    long = "word " * 40 + "[bold] [8, 14]"
    study, _ = dry(capsys, "--set", f"description='{long}'", "--set", f"tracking.uri=sqlite:////{'x' * 150}.db")
    assert study["description"] == long
    assert study["tracking"]["uri"] == f"sqlite:////{'x' * 150}.db"


def test_dry_run_shows_limits_and_starts(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the published networks 20, 32, 44, 56 and 110 layers deep, three have fewer parameters than 0.8M."""
    Path("mine.yaml").write_text(FILE)
    below = {depth: published(depth)[0] < 800_000 for depth in (20, 32, 44, 56, 110)}
    assert list(below.values()) == [True, True, True, False, False]
    limits = ["--set", "space.net.depth=[20,32,44,56,110]", "--set", "limits.params=0.8M"]
    starts = ["--set", "start=[resnet44,{net.depth: 32}]"]
    _, text = dry(capsys, "mine.yaml", *limits, *starts)
    assert "\nwithin the limits: 3 of 5 networks\n" in text
    assert "\nstart 1, resnet44: net.depth 44\nstart 2, given: net.depth 32\n" in text
    assert "\n  net.depth: 44\n" in text.partition("example trial:")[2]
    _, text = dry(capsys, "mine.yaml", "--set", "start=[]")
    assert "within the limits" not in text
    assert "start 1" not in text


def test_example_is_the_first_proposal_of_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    def example(seed: str) -> str:
        return dry(capsys, "--seed", seed, "--set", "start=[]")[1].partition("example trial:")[2]

    assert example("1") == example("1") != example("2")


def test_flags_reach_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {
        "--name": ("name", "other"),
        "--trials": ("search.trials", 7),
        "--epochs": ("train.epochs", 5),
        "--time-budget": ("search.time_budget", 90.0),
        "--data-dir": ("data.dir", "/data"),
        "--weights-dir": ("weights_dir", "/weights"),
        "--cpus-per-trial": ("resources.cpus_per_trial", 0.5),
        "--gpus-per-trial": ("resources.gpus_per_trial", 0.0),
        "--max-concurrent": ("search.max_concurrent", 1),
        "--seed": ("search.seed", 3),
        "--sampler": ("search.sampler", "random"),
        "--scheduler": ("search.scheduler", "none"),
        "--storage": ("search.storage", "sqlite:///trials.db"),
    }
    study, _ = dry(capsys, *(word for flag, (_, value) in flags.items() for word in (flag, str(value))))
    for path, value in flags.values():
        section, _, name = path.partition(".")
        assert (study[section][name] if name else study[section]) == value, path


def test_learn_from_begins_with_eight_of_several_studies() -> None:
    asked = cli.study(cli.parse(["digits", "--learn-from", "a", "b", "c", "--trials", "9"]))
    assert [(one.study, one.best) for one in asked.formers] == [("a", 3), ("b", 3), ("c", 3)]
    assert len(asked.start) == 3, "in place of what is known"


def test_a_flag_says_the_same_as_the_file_and_wins_over_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert dry(capsys, "--epochs", "24", "--seed", "0", "--trials", "24", "--set", "search.trials=9") == dry(capsys)


@pytest.mark.parametrize(
    ("variable", "flags", "key"),
    [
        ("MLFLOW_TRACKING_URI", ["--tracking-uri"], "uri"),
        ("MLFLOW_EXPERIMENT_NAME", ["--set"], "experiment"),
    ],
)
def test_flag_over_environment_over_file_over_default(
    variable: str, flags: list[str], key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolved(*arguments: str) -> str:
        return dry(capsys, *arguments)[0]["tracking"][key]

    default = {"uri": None, "experiment": "resnet-search"}[key]
    Path("mine.yaml").write_text(FILE)
    assert resolved("mine.yaml") == default
    Path("mine.yaml").write_text(FILE + f"tracking: {{{key}: of-the-file}}\n")
    assert resolved("mine.yaml") == "of-the-file"
    monkeypatch.setenv(variable, "")
    assert resolved("mine.yaml") == "of-the-file", "empty is not set"
    monkeypatch.setenv(variable, "of-the-environment")
    assert resolved("mine.yaml") == "of-the-environment"
    value = "of-the-flag" if flags == ["--tracking-uri"] else f"tracking.{key}=of-the-flag"
    assert resolved("mine.yaml", *flags, value) == "of-the-flag"


@pytest.mark.parametrize(("side", "study"), [(64, "small-images"), (65, "photos")])
def test_the_study_of_an_archive_follows_the_size_of_its_images(tmp_path: Path, side: int, study: str) -> None:
    images = np.zeros((40, side, side, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(40) % 2)
    assert cli.parse(["--data", str(tmp_path / "a.npz")]).study == study


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.name: .*/none\.npz does not exist"):
        cli.parse(["--data", str(tmp_path / "none.npz")])
