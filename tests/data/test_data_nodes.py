"""Data on several machines: prepared on each from what they share, or copied once from a URL, and the same on all."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.data import on_this_machine, prepare
from search.errors import InputError
from search.spec import DataSpec
from tests.support.sample_data import write_npz
from tests.support.study_process import ROOT


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of another machine, as this process has it from now on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    return tmp_path / "another"


def prepared_elsewhere(folder: Path, spec: DataSpec) -> tuple[Path, str]:
    """Folder and digest of a preparation in a cache that this process does not have."""
    code = "import sys; from search.data import prepare; from search.spec import DataSpec; "
    code += "p = prepare(DataSpec.model_validate_json(sys.argv[1])); "
    code += "print(p.folder); print(p.info.digest)"
    done = subprocess.run(
        [sys.executable, "-c", code, spec.model_dump_json()],
        env={"XDG_CACHE_HOME": str(folder), "PATH": ""}, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    place, digest = done.stdout.split()
    return Path(place), digest


def test_a_machine_without_the_preparation_makes_its_own(tmp_path: Path, another: Path) -> None:
    spec = DataSpec(name=write_npz(tmp_path / "d.npz"))
    folder, digest = prepared_elsewhere(tmp_path / "driver", spec)
    here = on_this_machine(folder, spec, digest)
    assert here.folder == folder, "one that is there is used"
    gone = folder.rename(folder.with_name("gone"))
    here = on_this_machine(folder, spec, digest)
    assert here.folder.is_relative_to(another)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(
            getattr(here, split)().images, getattr(on_this_machine(gone, spec, digest), split)().images
        )


def test_other_data_on_another_machine_are_refused(tmp_path: Path, another: Path) -> None:
    spec = DataSpec(name=write_npz(tmp_path / "d.npz"))
    _, digest = prepared_elsewhere(tmp_path / "driver", spec)
    write_npz(tmp_path / "d.npz", x_train=np.zeros((20, 4, 5, 3), np.uint8))
    with pytest.raises(InputError, match=r"is not what the study began with .*--data-dir that they share"):
        on_this_machine(tmp_path / "not-here", spec, digest)


def cifar(folder: Path) -> Path:
    """Something small that is laid out as CIFAR-10."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8), np.arange(40) % 10
    folder.mkdir()
    write_npz(folder / "cifar10.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    return folder


def test_raw_data_behind_a_url_are_copied_once(tmp_path: Path, another: Path) -> None:
    shared = cifar(tmp_path / "shared")
    spec = DataSpec(name="cifar10", dir=f"file://{shared}")
    prepared = prepare(spec)
    assert prepared.info.digest == prepare(DataSpec(name="cifar10", dir=str(shared))).info.digest
    (shared / "cifar10.npz").unlink()
    assert prepare(spec).folder == prepared.folder
    copies = [path.name for path in another.rglob("cifar10.npz*")]
    assert copies == ["cifar10.npz"], "whole, and no part of one"


def test_urls_that_do_not_give_the_data(tmp_path: Path, another: Path) -> None:
    def refused(url: str) -> str:
        with pytest.raises(InputError) as told:
            prepare(DataSpec(name="cifar10", dir=url))
        return str(told.value)

    assert "does not hold" in refused(f"file://{tmp_path}")
    assert "data.dir = 'nothing://x'" in refused("nothing://x")
    assert "hidden" not in refused("nothing://ann:hidden@x")
    assert not list(another.rglob("cifar10-*/meta.json"))
