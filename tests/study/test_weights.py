"""Weights that trials start from, as the driver finds and keeps them and a worker loads them."""

import hashlib
import json
import re
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save, save_file

from resnet import NetSpec, build, load_pretrained
from search import Study
from search.data import prepare
from search.errors import Halted, InputError
from search.export import Exportable
from search.records import StudyFolder
from search.spec import DataSpec, LimitSpec, Space, StudySpec, TrialSpec, appraise
from search.storage import Output, Remote
from search.study.weights import Weights, find
from search.training import pretrained
from tests.support.exported import TRAINED, trained
from tests.support.sample_data import grey
from tests.support.study_process import command, run

RESNET18 = "resnet18-f37072fd.pth"  # https://download.pytorch.org/models/
IMAGE = (32, 32, 1)
INFO = grey(32)
PHOTOS = {"net": {"family": "imagenet"}, "space": {"train.start": ["scratch", "imagenet"], "net.version": ["v1", "v2"]}}
SMALL = {"space": {"net.depth": [8, 14], "net.version": ["v1", "v2"]}}


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's cache is the test's own, and where a download goes nobody answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(urllib.request, "_opener", None)  # what the process has asked before knows other proxies


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder.enter(Output(str(tmp_path / "results")), "mine")


def study(**asked: Any) -> tuple[StudySpec, Space]:
    spec = StudySpec.model_validate({"name": "mine", **asked})
    return spec, spec.make_space(INFO.shape, 2)


def found(folder: StudyFolder, **asked: Any) -> Weights:
    spec, space = study(**asked)
    return find(spec, INFO, space, Output(str(folder.path.parent)), folder.keep_weights)


def trial(start: str, **net: Any) -> TrialSpec:
    flat = {"net.in_channels": 1, "net.num_classes": 2, "train.start": start}
    return TrialSpec.from_flat(flat | {f"net.{name}": value for name, value in net.items()})


def refusal(folder: StudyFolder, **asked: Any) -> str:
    with pytest.raises(InputError) as refused:
        found(folder, **asked)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert ";" in sentence, "the remedy"
    return sentence


def torchvisions(place: Path) -> torch.nn.Module:
    torch.manual_seed(3)
    net = torchvision.models.resnet18()
    place.mkdir(parents=True)
    torch.save(net.state_dict(), place / RESNET18)
    return net.double().eval()


@pytest.mark.parametrize("where", ["cache", "weights_dir"])
def test_a_trial_from_imagenet_has_torchvisions_network(where: str, folder: StudyFolder, tmp_path: Path) -> None:
    """One grey image: torchvision's first convolution sees it in all three channels."""
    place = tmp_path / ("torch/hub/checkpoints" if where == "cache" else "mine")
    theirs = torchvisions(place)
    asked = {} if where == "cache" else {"weights_dir": str(place)}
    weights = found(folder, **PHOTOS, **asked)
    assert weights.missing is None
    spec = trial("imagenet", family="imagenet", depth=18)
    kept = weights.of_trial(spec)
    assert kept is not None
    assert kept.source == f"torchvision {RESNET18}"
    file = Path(folder.weights(kept.sha256))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == kept.sha256 == file.stem
    ours = build(spec.net).double().eval()
    load_pretrained(ours, pretrained(str(file)))
    theirs.fc = ours.fc
    image = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image.expand(-1, 3, -1, -1)))
    assert Weights.of(json.loads(json.dumps(weights.stored))) == weights


def test_a_network_without_weights_is_beyond_the_limits(folder: StudyFolder, tmp_path: Path) -> None:
    torchvisions(tmp_path / "torch" / "hub" / "checkpoints")
    weights = found(folder, **PHOTOS)
    for version, start, able in (("v1", "imagenet", True), ("v2", "imagenet", False), ("v2", "scratch", True)):
        given = trial(start, family="imagenet", version=version)
        seen = weights.appraised(given, appraise(given, IMAGE[:2], LimitSpec()))
        assert (seen.reason is None) == able
        assert (max(seen.excess.values(), default=0) > 0) != able


def test_without_a_network_scratch_alone_is_searched(folder: StudyFolder) -> None:
    weights = found(folder, **PHOTOS)
    assert weights.kept == ()
    assert re.match(rf"{RESNET18} cannot be fetched \(.*refused.*\), so no trial starts", weights.missing or "")
    _, space = study(**PHOTOS)
    narrow = weights.narrowed(space)
    assert {TrialSpec.from_flat(c).train.start for c in narrow.combinations(values=True)} == {"scratch"}
    only = PHOTOS | {"space": {"train.start": ["imagenet"]}}
    assert "name a folder that has them with --weights-dir" in refusal(folder, **only)
    assert "weights_dir = 'nowhere' is no folder" in refusal(folder, **PHOTOS, weights_dir="nowhere")


def test_what_depends_on_the_start_is_searched_with_it(folder: StudyFolder) -> None:
    when = {"when": {"train.start": ["imagenet"]}}
    space = {
        "train.start": {"choices": ["scratch", "imagenet"], "when": {"net.version": ["v1"]}},
        "train.freeze_epochs": {"choices": [0, 2], **when},
        "train.layer_decay": {"choices": [0.7, 1.0], **when},
        "net.version": ["v1", "v2"],
    }
    _, made = study(net={"family": "imagenet"}, space=space)
    seen = {
        (spec.net.version.value, spec.train.start, spec.train.freeze_epochs, spec.train.layer_decay)
        for spec in map(TrialSpec.from_flat, made.combinations(values=True))
    }
    scratch = {("v1", "scratch", 0, 1.0), ("v2", "scratch", 0, 1.0)}
    assert seen == scratch | {("v1", "imagenet", freeze, decay) for freeze in (0, 2) for decay in (0.7, 1.0)}


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt"])
def test_a_file_of_our_own_weights(ending: str, folder: StudyFolder, tmp_path: Path) -> None:
    file = tmp_path / f"w.{ending}"
    weights = build(NetSpec(depth=14, version="v2", in_channels=1, num_classes=7)).state_dict()
    save_file(weights, file) if ending == "safetensors" else torch.save(weights, file)
    kept = found(folder, **SMALL, train={"start": str(file)})
    one = kept.of_trial(trial(str(file), depth=14, version="v2"))
    assert one is not None
    assert one.source == file.name
    assert all(torch.equal(t, weights[n]) for n, t in pretrained(folder.weights(one.sha256)).items())
    for net in ({"depth": 8, "version": "v2"}, {"depth": 14, "version": "v1"}):
        assert kept.of_trial(trial(str(file), **net)) is None


class Code:
    """Unpickled, it would make a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self._mark,)


def test_each_bad_input_is_one_sentence(folder: StudyFolder, tmp_path: Path) -> None:
    def given(name: str, content: Any = None) -> str:
        file = tmp_path / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            torch.save(content, file)
        return refusal(folder, **SMALL, train={"start": str(file)})

    assert "w.pth' does not exist; give scratch, imagenet, study:NAME" in given("w.pth")
    assert "holds more than tensors, which is never run" in given("code.pth", {"w": Code(tmp_path / "ran")})
    assert not (tmp_path / "ran").exists()
    assert "is damaged" in given("half.pth", b"PK\x03\x04 half")
    assert "is damaged" in given("half.safetensors", b"\x10" * 50)
    assert "holds no state_dict" in given("nested.pth", {"state_dict": build(NetSpec(depth=8)).state_dict()})
    assert "ends in .safetensors, .pth or .pt" in given("w.ckpt", b"w")
    wide = build(NetSpec(depth=8, width=2)).state_dict()
    sentence = given("wide.pt", wide)
    assert "fits no network of the space (depth 8, version v1, width 1: 'stem.0.weight' has shape (32, 3" in sentence
    (tmp_path / "empty").mkdir()
    assert "has no config.json; name a folder that" in given("empty")
    imagenet = refusal(folder, **SMALL, train={"start": "imagenet"})
    assert "'imagenet' fits no network of the space: torchvision has weights for net.family imagenet" in imagenet
    assert "study 'other' is not in" in refusal(folder, **SMALL, train={"start": "study:other"})
    other = folder.path.parent / "other"
    other.mkdir()
    (other / "study.yaml").write_text("data: digits\nspace: {net.depth: [8]}\n")
    assert "the study has no champion; run it to its end" in refusal(folder, **SMALL, train={"start": "study:other"})
    rows = [{"name": "a", "set": {"net.depth": 8}}, {"name": "b", "set": {"net.depth": 14}}]
    compared = refusal(folder, compare=rows, train={"start": str(tmp_path / "wide.pt")})
    assert "does not fit every row of compare" in compared


def test_a_worker_refuses_weights_that_are_not_those_of_the_study(folder: StudyFolder) -> None:
    place = folder.weights(folder.keep_weights(b"weights"))
    Path(place).write_bytes(b"other")
    with pytest.raises(Halted, match="is gone or damaged; restore it from a copy"):
        pretrained(place)
    Path(place).unlink()
    with pytest.raises(Halted, match="is gone or damaged"):
        pretrained(place)


@pytest.mark.parametrize("where", ["folder", "url"])
def test_they_are_kept_with_the_study_and_deleted_with_it(where: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = str(tmp_path / "results") if where == "folder" else f"memory://{tmp_path.name}"
    folder = StudyFolder.enter(Output(output), "mine")
    weights = build(NetSpec(depth=8)).state_dict()
    place = folder.weights(folder.keep_weights(save(weights)))
    assert place.startswith(f"{output}/mine/weights/")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in pretrained(place).items())
    assert folder.clear() == []
    with pytest.raises(Halted, match="is gone or damaged"):
        pretrained(place)
    assert not (folder.path / "weights").exists()
    folder.leave()


def test_the_champion_of_a_study_at_a_url(tmp_path: Path, monkeypatch: Any) -> None:
    """It is there as an archive; a head for other classes is left behind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = trained(TRAINED, prepare(DataSpec(name="digits", limit=100)), tmp_path / "w.safetensors")
    (tmp_path / "champion").mkdir()
    _write(made, tmp_path / "champion")
    url = f"memory://{tmp_path.name}"
    archive = Path(shutil.make_archive(str(tmp_path / "champion"), "zip", tmp_path / "champion"))
    Remote(f"{url}/first").put("champion.zip", archive.read_bytes())
    Remote(f"{url}/first").put("study.yaml", b"data: digits\nspace: {net.depth: [8]}\n")
    folder = StudyFolder.enter(Output(url), "mine")
    spec, space = study(train={"start": "study:first"}, net={"depth": 8}, space={"net.version": ["v1", "v2"]})
    weights = find(spec, INFO, space, Output(url), folder.keep_weights)
    (kept,) = weights.kept
    ours, theirs = pretrained(folder.weights(kept.sha256)), load_file(made.weights)
    assert theirs.keys() - ours.keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert weights.of_trial(trial("study:first", depth=8, version="v2")) == kept
    folder.leave()


def _write(made: Exportable, folder: Path) -> None:
    """As an export has them, without ONNX, which takes long."""
    data = made.weights.read_bytes()
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_text(made.config(hashlib.sha256(data).hexdigest()).model_dump_json())


@pytest.mark.long
def test_a_study_that_starts_from_the_champion_of_another(tmp_path: Path) -> None:
    """At rate 0 its only trial keeps the champion's network; it is opened without the former study."""
    data = {"name": "digits", "limit": 300}
    former = tmp_path / "results" / "first"
    former.mkdir(parents=True)
    (former / "study.yaml").write_text("data: digits\nspace: {net.depth: [8]}\n")
    made = trained(TRAINED, prepare(DataSpec.model_validate(data)), tmp_path / "w.safetensors")
    champion = load_file(made.weights)
    (former / "champion").mkdir()
    _write(made, former / "champion")

    space = {"train.start": ["study:first"], "train.lr": [1e-50], "net.depth": [8, 14], "net.version": ["v2"]}
    train = {"epochs": 1, "batch_size": 32, "crop_padding": 1, "freeze_epochs": 1}
    asked = {"data": data, "train": train, "space": space, "start": [], "finals": {"top": 0}, "search": {"trials": 1}}
    line = command(tmp_path, "--sampler", "grid", "--scheduler", "none", **asked)
    first = run(tmp_path, line)
    assert first.returncode == 0, first.stdout + first.stderr
    folder = tmp_path / "results" / "tiny"
    (checkpoint,) = folder.glob("trials/*/epoch-000001/model.safetensors")
    after = load_file(checkpoint)
    assert after.keys() == champion.keys()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, champion[name])}
    assert changed == {f"end.0.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}, (
        "of the head"
    )

    shutil.rmtree(former)
    again = Study.create(tmp_path / "tiny.yaml", output=tmp_path / "results", sampler="grid", scheduler="none").run()
    assert again.worked, "it is complete, and looks for no weights"
    with pytest.raises(InputError, match="'study:first': study 'first' is not in"):
        Study.create(tmp_path / "tiny.yaml", output=tmp_path / "results", name="new").run()
