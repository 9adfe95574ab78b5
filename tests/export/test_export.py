"""Exported folders: three routes to the same numbers, every family, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import resnet
from resnet import NetSpec, build
from resnet.classifier import Scaled
from search.data import prepare
from search.errors import InputError
from search.export import graphs, mend
from search.export.bundle import export, is_whole
from search.spec import DataSpec, TrialSpec
from tests.support.exported import NET, Made, trained
from tests.support.sample_data import write_folder, write_npz

pytest_plugins = ["tests.support.fixtures_export"]

ROOT = Path(__file__).parents[2]

WITHOUT_US = """
import sys
import numpy as np, onnxruntime
images = np.load(sys.argv[2])
folder = sys.argv[1]
(onnx,) = onnxruntime.InferenceSession(f"{folder}/model.onnx").run(None, {"images": images})
np.save(sys.argv[3], onnx)
assert not {"resnet", "search", "torch"} & sys.modules.keys()
"""
ALONE = """
import sys
sys.modules |= dict.fromkeys(sys.argv[4:])  # they cannot be imported
import numpy as np, resnet
np.save(sys.argv[3], resnet.load(sys.argv[1])(np.load(sys.argv[2])).detach())
"""
LOADS = {"jaxtyping", "numpy", "pillow", "pydantic", "safetensors", "torch"}
TWO_CLASSES = TrialSpec.from_flat({"net.depth": 8, "net.num_classes": 2, "train.epochs": 1, "train.batch_size": 4})
FAMILIES = {
    "v1, conv1x1": NetSpec(depth=5, unit="single", shortcut="conv1x1", in_channels=1),
    "v2, bottleneck, exclusive gate": NetSpec(
        depth=11, unit="bottleneck", version="v2", shortcut="exclusive_gate", gate_bias=-1, in_channels=4
    ),
    "shortcut-only gate": NetSpec(depth=8, version="relu_only_preact", shortcut="shortcut_only_gate", gate_bias=0),
    "dropout": NetSpec(depth=5, unit="single", version="bn_after_add", shortcut="dropout", dropout=0.7),
    "imagenet": NetSpec(family="imagenet", depth=18, width=0.125, num_classes=20),
    "article": NetSpec(family="article", version="v2", image_size=32),
}


def test_the_routes_agree_on_the_whole_test_split(made: Made, tmp_path: Path) -> None:
    """With the network as training validates it; ONNX in a process that knows neither this project nor torch."""
    assert len(made.images) == 359
    answers = made.logits.argmax(1)
    assert (answers == made.labels).mean() > 0.9, "it has learned"
    np.save(tmp_path / "images.npy", made.images)
    arguments = [str(made.folder), str(tmp_path / "images.npy"), str(tmp_path / "found.npy")]
    subprocess.run([sys.executable, "-c", WITHOUT_US, *arguments], check=True, cwd=tmp_path)
    with torch.no_grad():
        loaded = resnet.load(made.folder)(made.images).numpy()
    for found in (loaded, np.load(tmp_path / "found.npy")):
        assert (found.argmax(1) == answers).all()
        np.testing.assert_allclose(found, made.logits, rtol=0, atol=1e-4)


def test_loading_needs_none_of_the_services_packages(made: Made, tmp_path: Path) -> None:
    """Those that docs/export.md names are enough."""
    document = (ROOT / "docs" / "export.md").read_text()
    assert f"pip install {' '.join(sorted(LOADS))}\n" in document
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    others = {re.split(r"[\[>=]", one)[0] for one in given} - LOADS
    modules = [name for name, owners in packages_distributions().items() if others & {o.lower() for o in owners}]
    assert {"ray", "mlflow", "optuna", "torchvision", "sklearn"} <= set(modules)
    np.save(tmp_path / "images.npy", made.images)
    arguments = [str(made.folder), str(tmp_path / "images.npy"), str(tmp_path / "found.npy"), "search", *modules]
    subprocess.run([sys.executable, "-c", ALONE, *arguments], check=True, cwd=ROOT)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), made.logits, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_exported(name: str) -> None:
    """Random weights and statistics of real size; batches of 1, 2 and 7."""
    spec = FAMILIES[name]
    torch.manual_seed(0)
    net = build(spec)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # statistics are of this one batch
    net(torch.randn(8, spec.in_channels, 32, 32))
    network = Scaled(net, (0.4,) * spec.in_channels, (0.2,) * spec.in_channels).eval()
    onnx = graphs.onnx(network, (32, 32, spec.in_channels), [str(k) for k in range(spec.num_classes)])
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        images = rng.integers(0, 256, (n, 32, 32, spec.in_channels), dtype=np.uint8)
        expected = graphs.run_network(network, images)
        assert expected.shape == (n, spec.num_classes)
        assert expected.std() > 0.01, "not all the same"
        np.testing.assert_allclose(graphs.run_onnx(onnx, images), expected, rtol=1e-5, atol=1e-4)


def test_the_folder(made: Made) -> None:
    files = {"README.md", "config.json", "examples.npy", "model.onnx", "model.safetensors", "SHA256SUMS"}
    assert {path.name for path in made.folder.iterdir()} == files
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=made.folder, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    whole = {line.removesuffix(": OK") for line in checked.stdout.splitlines()}
    assert whole == files - {"README.md", "examples.npy", "SHA256SUMS"}
    assert list(made.folder.parent.glob(".*.partial")) == []
    assert (made.folder / "model.safetensors").read_bytes() == made.model.weights.read_bytes()
    examples = np.load(made.folder / "examples.npy")
    assert (examples == made.model.data.validation().images[:4]).all()
    session = onnxruntime.InferenceSession(made.folder / "model.onnx")
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.shape, taken.type) == ("images", ["n", 8, 8, 1], "tensor(uint8)")
    assert (given.name, given.shape, given.type) == ("logits", ["n", 10], "tensor(float)")
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list("0123456789")
    config = json.loads((made.folder / "config.json").read_text())
    assert config["about"]["data"]["digest"] == made.model.data.info.digest
    assert TrialSpec(net=config["net"], train=config["about"]["train"]) == made.model.spec


def test_the_card(made: Made, tmp_path: Path) -> None:
    """Student's interval of 2.0, 2.5 and 3.0 by hand: 2.5 -+ 4.3027 x 0.5 / sqrt(3) = 1.26 to 3.74."""
    card = (made.folder / "README.md").read_text()
    error, images = made.model.facts.val_error, made.model.data.info.n_validation
    assert error is not None
    assert f"Validation error {error:.2f} %" in card
    assert f"n = {images} images" in card
    assert "there is no test error" in card
    answers = resnet.load(made.folder).predict(np.load(made.folder / "examples.npy"))
    assert json.dumps(answers) in card
    facts = replace(made.model.facts, tested={0: 2.5, 1: 2.0, 2: 3.0}, val_error=None)
    (tmp_path / "tested").mkdir()  # an empty folder is taken
    left = tmp_path / f".tested.{'a' * 32}.partial"  # by an export that was killed
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    export(tmp_path / "tested", replace(made.model, facts=facts))
    assert not left.exists()
    card = (tmp_path / "tested" / "README.md").read_text()
    assert "Test error 2.50 %, the mean of n = 3 trainings, 95 % interval of the mean 1.26 to 3.74 %" in card
    assert "each tested on 359 images" in card
    assert "seed 1: 2.00 %" in card
    assert "Validation error" not in card
    about = json.loads((tmp_path / "tested" / "config.json").read_text())["about"]
    assert about["test_interval"] == pytest.approx([1.2579, 3.7421], abs=1e-4)


def test_other_data(tmp_path: Path) -> None:
    """Colour, oblong, two classes: nothing is of digits alone."""
    prepared = prepare(DataSpec(name=write_npz(tmp_path / "noise.npz")))
    export(tmp_path / "out", trained(TWO_CLASSES, prepared, tmp_path / "weights.safetensors"))
    images = np.array(prepared.test().images)
    assert images.shape == (6, 4, 5, 3)
    assert resnet.load(tmp_path / "out")(images).shape == (6, 2)


def test_pictures_of_any_size(tmp_path: Path) -> None:
    """A network of an image folder takes photographs as training did, and its card names no path of this machine."""
    name = write_folder(tmp_path / "photos", {"train": {"cat": 12, "dog": 12}, "test": {"cat": 3, "dog": 3}})
    prepared = prepare(DataSpec(name=name, image_size=16, validation=0.25))
    export(tmp_path / "out", trained(TWO_CLASSES, prepared, tmp_path / "weights.safetensors"))
    model = resnet.load(tmp_path / "out")
    files = [tmp_path / f"photos/test/{c}/{k}.png" for c in ("cat", "dog") for k in range(3)]
    with torch.no_grad():
        found = model([Image.open(file) for file in files])
        expected = model(np.array(prepared.test().images))  # decoded when the data were prepared
    assert torch.equal(found, expected)
    for text in ("README.md", "config.json"):
        assert str(tmp_path) not in (tmp_path / "out" / text).read_text()


def test_a_graph_that_gives_other_numbers_is_refused(made: Made) -> None:
    """The ONNX model of one network beside another one that differs in one weight."""
    network = resnet.load(made.folder).scaled
    onnx = (made.folder / "model.onnx").read_bytes()
    logits = graphs.run_network(network, made.images)
    assert graphs.check("it", logits, graphs.run_onnx(onnx, made.images)) < 1e-4
    with torch.no_grad():
        network.get_parameter("net.fc.bias")[3] += 3e-4
    changed = graphs.run_network(network, made.images)
    with pytest.raises(graphs.NotTheSame, match=r"it gives other logits than the network \(0\.0003 apart"):
        graphs.check("it", changed, graphs.run_onnx(onnx, made.images))


def test_a_network_without_numbers_is_refused(made: Made, tmp_path: Path) -> None:
    net = build(NET)
    with torch.no_grad():
        net.fc.bias[0] = torch.nan
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(graphs.NotTheSame, match="not finite"):
        export(tmp_path / "out", replace(made.model, weights=tmp_path / "weights.safetensors"))
    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors"}


WITHOUT_ONNX = """
import importlib, pkgutil, sys
sys.modules |= dict.fromkeys(("onnx", "onnxruntime", "onnxscript"))  # they cannot be imported
import search
for module in pkgutil.walk_packages(search.__path__, "search."):
    if not module.name.endswith(("__main__", "served_model")):
        importlib.import_module(module.name)
from search.export import graphs
assert not graphs.installed()
"""


def test_nothing_imports_onnx_until_it_is_used() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_ONNX], check=True)


def test_a_place_that_is_taken(made: Made, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, words in (("full", "has something in it"), ("file", "is a file")):
        with pytest.raises(InputError, match=rf"--to = '.*{name}' {words}; name a folder that is new or empty"):
            export(tmp_path / name, made.model)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_export_takes_the_place_of_an_earlier_one(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "champion"
    shutil.copytree(made.folder, folder)
    with pytest.raises(FileNotFoundError):
        export(folder, replace(made.model, weights=tmp_path / "none"), replace=True)
    assert contents(folder) == contents(made.folder), "one that fails leaves the earlier one"
    facts = replace(made.model.facts, training="trial 9")
    export(folder, replace(made.model, facts=facts), replace=True)
    assert json.loads((folder / "config.json").read_text())["about"]["training"] == "trial 9"
    assert is_whole(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["champion"]


def test_a_link_is_not_replaced(made: Made, tmp_path: Path) -> None:
    """Nor is what it leads to, nor a folder of a user's in the place of an export or of what is left of one."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(made.folder, elsewhere)
    (tmp_path / "champion").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"no export has written .*champion, which a new one would replace"):
        export(tmp_path / "champion", made.model, replace=True)
    assert is_whole(tmp_path / "champion"), "it can be read through the link"
    (tmp_path / ".champion.a.partial").symlink_to(elsewhere)
    (tmp_path / ".champion.b.partial").mkdir()
    (tmp_path / ".champion.b.partial" / "thesis.tex").write_text("mine")
    (tmp_path / ".champion.c.partial").mkdir()
    (tmp_path / ".champion.c.partial" / "config.json").write_text("{")
    mend(tmp_path / "champion")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"elsewhere", "champion", ".champion.a.partial", ".champion.b.partial"}
    assert (tmp_path / ".champion.b.partial" / "thesis.tex").read_text() == "mine"
    assert len(list(elsewhere.iterdir())) == 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    ran = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True)
    if ran.returncode:
        pytest.skip(f"no file system can be mounted here: {ran.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_leaves_nothing(made: Made, small_disk: Path) -> None:
    """The weights have 310 KB, all files together more than 600."""
    with pytest.raises(OSError, match="No space left"):
        export(small_disk / "out", made.model)
    assert list(small_disk.iterdir()) == []


def test_a_network_for_smaller_images_than_were_prepared(tmp_path: Path) -> None:
    """Pictures, example images and the graph have the size that the network was trained on."""
    pictures = np.random.default_rng(5).integers(0, 256, (60, 24, 24, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pictures, y_train=np.arange(60) % 2)
    prepared = prepare(DataSpec(name=f"npz:{tmp_path / 'a.npz'}"))
    flat = TWO_CLASSES.flat() | {"train.image_size": 12}
    export(tmp_path / "net", trained(TrialSpec.from_flat(flat), prepared, tmp_path / "weights.safetensors"))
    network = resnet.load(tmp_path / "net")
    assert (network.config.image.height, network.config.image.width) == (12, 12)
    assert np.load(tmp_path / "net/examples.npy").shape == (4, 12, 12, 3)
    session = onnxruntime.InferenceSession(tmp_path / "net/model.onnx")
    (logits,) = session.run(None, {"images": np.load(tmp_path / "net/examples.npy")})
    with torch.no_grad():
        np.testing.assert_allclose(network(np.load(tmp_path / "net/examples.npy")).numpy(), logits, atol=1e-4)
