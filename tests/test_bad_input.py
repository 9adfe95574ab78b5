"""Everything a user can get wrong on the command line: one sentence with field, value and remedy, exit status 2."""

import os
from pathlib import Path

import pytest

from tests.support.fixtures import alone, refusal  # noqa: F401

pytestmark = pytest.mark.usefixtures("alone")

CORES = len(os.sched_getaffinity(0))

# what is given -> words that the sentence must have: the field, the value, the remedy
REFUSED: list[tuple[list[str], list[str]]] = [
    (["digts"], ["study 'digts' is unknown", "did you mean 'digits'?"]),
    (["birds"], ["study 'birds' is unknown", "choose from", "cifar10", "digits", ".yaml"]),
    (["digits.yml"], ["study 'digits.yml'", "no such file", "did you mean 'digits'?"]),
    (["/no/such.yaml"], ["study '/no/such.yaml'", "no such file", "choose from"]),
    (["digits", "cifar10"], ["unrecognized arguments: cifar10", "--help"]),
    (["--foo"], ["unrecognized arguments: --foo", "--help"]),
    (["--output"], ["--output", "expected one argument", "--help"]),
    (["--trails", "5"], ["unrecognized arguments: --trails", "did you mean '--trials'?"]),
    (["--trails=5"], ["--trails=5", "did you mean '--trials'?"]),
    # the study's keys
    (["--set", "nam=x"], ["nam = 'x' is not a key", "did you mean 'name'?"]),
    (["--set", "search.trails=3"], ["search.trails = 3 is not a key", "did you mean 'trials'?"]),
    (["--set", "data.foo=2"], ["data.foo = 2 is not a key", "choose from dir, drop_duplicates"]),
    (["--set", "net.dpth=20"], ["net.dpth is not a field", "did you mean 'net.depth'?"]),
    (["--set", "train.lr"], ["--set train.lr has no `=`", "KEY=VALUE"]),
    (["--set", "=3"], ["--set =3", "KEY=VALUE"]),
    (["--set", "train.lr\nx"], ["--set train.lr x has no `=`", "KEY=VALUE"]),
    (["--set", "net.depth=[8"], ["--set net.depth=[8: cannot be read", "line 1, column 3", "[list]"]),
    (["--set", "net.depth=" + "[" * 5000], ["cannot be read", "more than 32 lists", "[list]"]),
    (["--set", "train.lr=" + "9" * 5000], ["cannot be read", "is no number", "write a number"]),
    (["--set", "train.lr=0x_"], ["'0x_' is no number", "write a number"]),
    (["--set", "train.lr={low: 1, low: 2}"], ["'low' is given twice", "remove one"]),
    (["--set", "train.lr=!!int x"], ["the tag", "leave it out"]),
    (["--set", "train.lr=2024-99-99"], ["train.lr = '2024-99-99'", "is no number"]),
    (["--set", "name.x=3"], ["name.x cannot be set", "name = 'digits'"]),
    (["--set", "data.name.x=3"], ["data.name.x cannot be set", "data.name = 'digits'"]),
    (["--name", "a/b"], ["name = 'a/b' cannot name a folder", "use letters"]),
    (["--name", ".."], ["name = '..' cannot name a folder", "use letters"]),
    (["--name", ""], ["name = '' cannot name a folder", "use letters"]),
    (["--set", "lr=0.1"], ["lr = 0.1 is not a key", "did you mean train.lr (fixed) or space.train.lr (searched)?"]),
    (["--set", "trials=5"], ["trials = 5 is not a key", "did you mean search.trials?"]),
    (["--set", "optimizer=adamw"], ["optimizer = 'adamw' is not a key", "did you mean train.optimizer (fixed)"]),
    (["--set", "scales.quick=5"], ["scales.quick = 5 is no list", "write ["]),
    # fixed values
    (["--set", "train.optimizer=adam"], ["train.optimizer = 'adam' is unknown", "did you mean 'adamw'?"]),
    (["--set", "train.pretrained=true"], ["train.pretrained is not a field", "did you mean 'train.start'?"]),
    (["--set", 'train.start=""'], ["train.start = ''", "is empty; give a word"]),
    (["--set", "train.layer_decay=0"], ["train.layer_decay = 0", "give more than 0"]),
    (["--set", "train.learning_rate=1"], ["train.learning_rate is not a field", "'train.lr'?"]),
    (["--set", "net.lr=1"], ["net.lr is not a field", "did you mean 'train.lr'?"]),
    (["--set", "net.depth=eight"], ["net depth 'eight' is no whole number", "write one"]),
    (["--set", "net.depth=57"], ["depth 57", "6n+2", "56 and 62"]),
    (["--set", "net.num_classes=7"], ["net.num_classes follows from the data set", "remove it"]),
    (["--set", "train.lr=abc"], ["train.lr = 'abc'", "is no number"]),
    (["--set", "train.lr=200"], ["train.lr = 200", "give at most 100"]),
    (["--set", "train.momentum=null"], ["train.momentum = None", "is no number"]),
    (["--set", "train=5"], ["train = 5", "is no mapping; write {KEY: VALUE}"]),
    (["--epochs", "0"], ["train.epochs = 0", "give at least 1"]),
    (["--epochs", "many"], ["train.epochs = 'many'", "is no whole number"]),
    # the space
    (["--set", "space.net.dpth=[20]"], ["space.net.dpth", "did you mean 'net.depth'?"]),
    (["--set", "space.net.depth=[20,57]"], ["depth 57", "6n+2", "56 and 62"]),
    (["--set", "space.net.depth={low: 8, high: 20}"], ["depth 9", "6n+2", "8 and 14"]),
    (["--set", "space.net.depth=20"], ["space.net.depth = 20", "write [20]"]),
    (["--set", "space.net.depth=[]"], ["space.net.depth = []", "at least one value"]),
    (["--set", "space.net.depth=[[8]]"], ["space.net.depth: [8]", "words or numbers"]),
    (["--set", "space.net.depth=[8,8]"], ["space.net.depth = [8, 8]", "twice", "remove"]),
    (["--set", "space.net.depth={low: 8.5, high: 20}"], ["space.net.depth", "8.5 ... 20", "whole"]),
    (["--set", "space.net.version=[v1,v3]"], ["version 'v3' is unknown", "choose from v1"]),
    (["--set", "space.net.version={low: 1, high: 2}"], ["space.net.version", "no number", "list of choices"]),
    (["--set", "space.net.num_classes=[10]"], ["space.net.num_classes", "follows from the data set", "remove it"]),
    (["--set", "space.train.epochs=[3,9]"], ["space.train.epochs", "budget", "set train.epochs or --epochs"]),
    (["--set", "space.train.lr={low: 1, high: 0.1}"], ["space.train.lr", "low = 1", "high = 0.1", "exchange"]),
    (["--set", "space.train.lr={low: 0, high: 1, log: true}"], ["space.train.lr", "low = 0", "above 0 or log: false"]),
    (["--set", "space.train.lr={low: a, high: 1}"], ["space.train.lr.low = 'a'", "needs low and high"]),
    (["--set", "space.train.lr={low: .nan, high: 1}"], ["space.train.lr.low = nan", "needs low and high"]),
    (["--set", "space.train.lr={low: 0.1}"], ["space.train.lr.high = None", "needs low and high"]),
    (["--set", "space.train.lr.hihg=0.1"], ["space.train.lr.hihg", "low, high, log, step, when"]),
    (["--set", "space.train.lr.low=0.6"], ["space.train.lr", "low = 0.6", "high = 0.5"]),
    (["--set", "space.train.lr={low: 0.1, high: 200}"], ["train.lr = 200", "give at most 100"]),
    (
        ["--set", "space.train.lr={low: 0.1, high: 0.3, log: true, step: 0.1}"],
        ["space.train.lr", "step = 0.1", "remove"],
    ),
    (
        ["--set", "space.train.lr={choices: [0.1], low: 0}"],
        ["space.train.lr", "low does not go with choices", "remove"],
    ),
    (
        ["--set", "space.net.dropout=[0.1]"],
        ["space.net.dropout never has an effect", "net.shortcut = dropout", "remove"],
    ),
    (
        ["--set", "space.train.lr={choices: [1], when: net.unit}"],
        ["space.train.lr", "when = 'net.unit'", "write when:"],
    ),
    (["--set", "space.train.lr={choices: [1], when: }"], ["space.train.lr", "when = None", "write when:"]),
    (["--set", "space.train.lr={choices: [1], when: {net.dpth: 8}}"], ["space.train.lr", "net.dpth", "'net.depth'?"]),
    (["--set", "space=5", "--set", "train.lr=0.1"], ["space = 5", "write net.depth: [8, 14, 20]"]),
    # the search
    (["--trials", "0"], ["search.trials = '0'", "give at least 1"]),
    (["--trials", "many"], ["search.trials = 'many'", "is no whole number"]),
    (["--time-budget", "soon"], ["search.time_budget = 'soon' is not a time", "90s, 30m, 2h"]),
    (["--time-budget", "0"], ["search.time_budget = 0", "give more than 0"]),
    (["--set", "search.gpu_hours=0"], ["search.gpu_hours = 0", "give more than 0"]),
    (["--set", "search.gpu_hours=10"], ["search.gpu_hours = 10", "trials hold no GPU", "set search.time_budget"]),
    (["--set", "search.max_cost=20"], ["search.max_cost = 20 is no amount of money", "such as 20 USD"]),
    (["--set", "search.target={val_eror: 5}"], ["search.target", "'val_eror' is unknown", "did you mean 'val_error'?"]),
    (["--set", "search.target={macs: 5}"], ["search.target.macs = 5 is of no objective", "choose from val_error"]),
    (["--set", "search.target={val_error: -1}"], ["search.target.val_error = -1 cannot be reached", "from 0 on"]),
    (["--set", "search.patience=long"], ["search.patience = 'long' is no number of trainings", "10 trainings"]),
    (["--set", "search.patience=0"], ["search.patience = 0", "give at least 1"]),
    (["--set", "notify=ftp://h/x"], ["notify = 'ftp://h/x' is no URL of http or https", "{command: [PROGRAM]}"]),
    (["--set", "notify={command: []}"], ["notify", "command", "give"]),
    (["--sampler", "randm"], ["search.sampler = 'randm'", "did you mean 'random'?"]),
    (["--scheduler", "hyperbad"], ["search.scheduler = 'hyperbad'", "choose from asha, none"]),
    (["--sampler", "grid"], ["search.sampler = grid", "train.lr is a continuum", "give it choices"]),
    (["--set", "search.objectives=[macs]"], ["search.objectives = [macs]", "begin with val_error"]),
    (["--set", "search.objectives=[val_error,val_error]"], ["names one twice", "remove"]),
    (["--set", "search.objectives=[val_error,val_balanced_error]"], ["names two errors", "keep the one"]),
    (["--set", "search.objectives=[balanced_error]"], ["'balanced_error' is unknown", "val_balanced_error"]),
    (
        ["--set", "search.objectives=[val_error,flops]"],
        ["search.objectives", "'flops' is unknown", "choose from images_per_s, latency_ms, macs"],
    ),
    (["--storage", "nosql://u:secret@h/x"], ["search.storage = 'nosql://h/x'", "cannot be opened", "correct the URL"]),
    (["--storage", "sqlite:////no/such/folder/x.db"], ["search.storage", "/no/such/folder", "correct the URL"]),
    # limits and starts
    (["--set", "limits.params=lots"], ["limits.params = 'lots' is no quantity", "500k"]),
    (["--set", "limits.macs=1e999G"], ["limits.macs = '1e999G' is no quantity", "500k"]),
    # 75,002 parameters: test_dry_run_of_digits in test_cli.py counts them by hand
    (["--set", "limits.params=75001"], ["limits.params = 75,001", "(75,002)", "raise it"]),
    (["--set", "limits.macs=1k"], ["limits.macs = 1,000", "smallest network", "raise it"]),
    (["--set", "limits.activation_memory=1k"], ["limits.activation_memory = 1,000", "raise it"]),
    (
        ["--set", "limits.signal=true", "--set", "space.net.depth=[998]", "--set", "net.shortcut=constant_scaling"],
        ["limits = {'signal': True}", "cannot reach the first unit", "allow other networks"],
    ),
    (
        ["--set", "start=[preact_resnet21]"],
        ["start: ", "'preact_resnet21' is neither a published network nor a recipe", "did you mean 'preact_resnet"],
    ),
    (["--set", "start=[preact_resnet110]"], ["start: preact_resnet110", "net.depth = 110", "8 | 14 | 20", "leave the"]),
    (["--learn-from", "lost"], ["start: study 'lost' is not in 'results'"]),
    (["--set", "start=[{net.dpth: 8}]"], ["net.dpth is not a field", "did you mean 'net.depth'?"]),
    (
        ["--set", "start=[resnet20]", "--set", "limits.params=100k"],
        ["start: resnet20 is beyond the limits", "above the limit of 100,000", "leave the start out"],
    ),
    (["--seed", "-1"], ["search.seed = '-1'", "give at least 0"]),
    (["--max-concurrent", "0"], ["search.max_concurrent = '0'", "give at least 1"]),
    (["--set", "search.first_rung=0"], ["search.first_rung = 0", "give at least 1"]),
    (["--epochs", "5", "--set", "search.first_rung=5"], ["search.first_rung = 5", "train.epochs = 5", "set it lower"]),
    (["--set", "train.batch_size=1200"], ["train.batch_size = 1200", "the 178 training images of digits", "at most"]),
    (["--set", "space.train.batch_size=[32,1200]"], ["train.batch_size = 1200", "the 178 training images"]),
    (["--set", "search.reduction=1"], ["search.reduction = 1", "give at least 2"]),
    # the machine
    (["--gpus-per-trial", "64"], ["resources.gpus_per_trial = 64", "this machine has", "ask for at most"]),
    (
        ["--gpus-per-trial", "0.5", "--set", "search.objectives=[val_error,images_per_s,seconds]"],
        ["resources.gpus_per_trial = 0.5", "search.objectives has images_per_s and seconds", "give 1"],
    ),
    (["--gpus-per-trial", "-1"], ["resources.gpus_per_trial = '-1'", "greater than or equal to 0"]),
    (["--cpus-per-trial", "99999"], ["resources.cpus_per_trial = 99999", f"{CORES} CPU cores", f"at most {CORES}"]),
    (["--set", "resources.gpus_per_trial=1.5"], ["resources.gpus_per_trial = 1.5", "whole GPUs", "give 1 or 2"]),
    (["--cpus-per-trial", "0.00001"], ["resources.cpus_per_trial = 1e-05", "too fine", "four decimals"]),
    (["--cpus-per-trial", "0"], ["resources.cpus_per_trial = '0'", "give more than 0"]),
    # the data
    (["--set", "data=cifar1"], ["data", "'cifar1'", "did you mean 'cifar10'?"]),
    (["--set", "data.name=imagefolder:/no/such"], ["data.name", "/no/such", "give"]),
    (["--set", "data.validation=1"], ["data.validation", "1", "give less than 0.9"]),
    (["--set", "data.limit=3"], ["data.limit", "3", "10 classes"]),
    # tracking
    (["--tracking-uri", "ftp://example.org"], ["'ftp://example.org'", "sqlite:///", "--tracking-uri"]),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=[" ".join(a)[:80] for a, _ in REFUSED])
def test_one_sentence(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refusal(arguments, capsys)
    for word in words:
        assert word in sentence
    assert not Path("results/digits/study.yaml").exists()


# a kilobyte that stands for a million words
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", ["own.yaml", "cannot be read as YAML", "line 1", "correct the file"]),
        ("- digits", ["own.yaml", "no mapping", "begin with name:"]),
        ("", ["own.yaml", "no mapping", "begin with name:"]),
        ("searh: {trials: 3}", ["searh", "not a key", "did you mean 'search'?"]),
        ("space: [1, 2]", ["space = [1, 2]", "no mapping", "write net.depth:"]),
        ("net: {depth: 8}\nspace: {net.depth: [8, 14]}", ["net.depth", "both fixed and in space", "remove one"]),
        ("name: 7", ["name = 7", "is no text; write"]),
        (LAUGHS, ["own.yaml", "line 1", "&a and *a are not read", "write the value"]),
        ("start: *first", ["own.yaml", "&first and *first are not read", "write the value"]),
        ("start: " + "[" * 5000, ["own.yaml", "line 1", "more than 32 lists", "correct the file"]),
        ("a:\n" + "- " * 5000, ["own.yaml", "line 2", "more than 32 lists", "correct the file"]),
        ("a: " + "{a: " * 5000, ["own.yaml", "more than 32 lists", "correct the file"]),
        ("data: digits\nnet: {}\ndata: cifar10", ["own.yaml", "line 3", "'data' is given twice, first in line 1"]),
        ("space: {net.depth: [8], 'net.depth': [14]}", ["own.yaml", "'net.depth' is given twice", "remove one"]),
        ("? [a]\n: 1", ["own.yaml", "line 1", "a key is a list or a mapping", "write a word"]),
        ("a: !!python/name:os.system x", ["own.yaml", "the tag", "leave it out", "correct the file"]),
        ("data: digits\n---\ndata: cifar10", ["own.yaml", "line 2", "single document", "correct the file"]),
        ("train: {lr: " + "9" * 5000 + "}", ["own.yaml", "line 1", "'9999", "is no number"]),
        ("train: {lr: " + "9" * 400 + "}", ["own.yaml", "'9999", "more than 64 bits", "smaller number"]),
        ("name: a\0b", ["own.yaml", "the character U+0000", "correct the file"]),
        ("# " + "x" * 2**18, ["own.yaml", "more than 262144 bytes", "correct the file"]),
        ("compare: [{name: a, published: 1}]", ["row 'a'", "published = 1 is no known figure", "choose from"]),
        ("net: 5", ["net = 5", "is no mapping; write {KEY: VALUE}"]),
        (
            "space: {train.lr: {choices: [1], when: {train.warmup: 0.1}}, "
            "train.warmup: {choices: [0.1], when: {train.lr: 1}}}",
            ["space.train.lr", "circle", "remove one"],
        ),
    ],
)
def test_study_file(text: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(text)
    sentence = refusal(["own.yaml"], capsys)
    for word in words:
        assert word in sentence


def test_study_file_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    for data in (b"\xff\xfe\x00\x81", "data: digits".encode("utf-16")):
        Path("own.yaml").write_bytes(data)
        sentence = refusal(["own.yaml"], capsys)
        assert "cannot be read as YAML" in sentence
        assert "save it as UTF-8" in sentence
    Path("folder.yaml").mkdir()
    assert "'folder.yaml': it is a folder" in refusal(["folder.yaml"], capsys)
    os.mkfifo("pipe.yaml")
    assert "'pipe.yaml': it is no regular file" in refusal(["pipe.yaml"], capsys)
    Path("dangling.yaml").symlink_to("gone.yaml")
    assert "'dangling.yaml': it is a link that leads to no file" in refusal(["dangling.yaml"], capsys)
    assert "cannot be read (File name too long)" in refusal(["x" * 300 + ".yaml"], capsys)
    assert "'~no-such-user/x.yaml' is no path" in refusal(["~no-such-user/x.yaml"], capsys)


def test_a_study_outside_of_the_output_folder_is_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/study.yaml").write_text("data: digits")
    for name in ("../elsewhere", str(Path("elsewhere").absolute())):
        assert f"study {name!r} is unknown" in refusal([name], capsys)


def test_names_of_files_do_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        Path(f"photos/train/{name}").mkdir(parents=True)
        os.mkfifo(f"photos/train/{name}/\x1b[2J\n.png")
    sentence = refusal(["--set", "data.name=imagefolder:photos"], capsys)
    assert "\x1b" not in sentence
    assert r"a/\x1b[2J .png is no regular file" in sentence


def test_data_folders_that_are_not_utf_8(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them would be written into records and reports, at the end of the training."""
    odd = os.fsdecode(b"caf\xe9")
    for folder in ("photos/train/a", f"photos/train/{odd}"):
        Path(folder).mkdir(parents=True)
    Path("photos/train/a/1.png").touch()
    sentence = refusal(["--set", "data.name=imagefolder:photos", "--set", "data.image_size=32"], capsys)
    assert r"class folder 'caf\udce9'" in sentence
    assert "rename it" in sentence
    assert r"data.dir = 'caf\udce9' has bytes that are not UTF-8; rename it" in refusal(["--data-dir", odd], capsys)
    Path("own.yaml").write_text(r'data: "imagefolder:caf\uDCE9"')
    assert r"data.name = 'imagefolder:caf\udce9' has bytes that are not UTF-8" in refusal(["own.yaml"], capsys)
    assert not Path("results/digits").exists()
