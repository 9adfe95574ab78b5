"""The splits hold the right images: against scikit-learn's own arrays, published figures and hand arithmetic."""

import gzip
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from search.data import Split, check, prepare
from search.errors import InputError
from search.spec import DataSpec
from tests.support.sample_data import write_npz

REAL = Path.home() / ".cache/datasets"


def per_class(split: Split) -> list[int]:
    return np.bincount(split.labels).tolist()


def rows(split: Split) -> list[tuple[bytes, int]]:
    return [(image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)]


def test_digits_are_those_of_scikit_learn_each_in_one_split() -> None:
    prepared = prepare(DataSpec())
    pixels, target = load_digits(return_X_y=True)
    levels = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]  # k * 255 / 16, rounded
    expected = np.asarray(levels, np.uint8)[np.asarray(pixels, int)].reshape(-1, 8, 8, 1)
    wanted = sorted((image.tobytes(), int(label)) for image, label in zip(expected, np.asarray(target), strict=True))
    splits = [prepared.train(), prepared.validation(), prepared.test()]
    assert sorted(row for split in splits for row in rows(split)) == wanted
    assert all(split.images.dtype == np.uint8 and split.labels.dtype == np.int64 for split in splits)


def test_digits_are_stratified_class_by_class() -> None:
    prepared = prepare(DataSpec())
    # a fifth of 178 182 177 183 181 182 181 179 174 180, rounded; then a tenth of what is left, halves up
    assert per_class(prepared.test()) == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert per_class(prepared.validation()) == [14, 15, 14, 15, 15, 15, 15, 14, 14, 14]
    assert per_class(prepared.train()) == [128, 131, 128, 131, 130, 131, 130, 129, 125, 130]
    info = prepared.info
    assert (info.n_train, info.n_validation, info.n_test, info.shape) == (1293, 145, 359, (8, 8, 1))
    assert info.classes == tuple("0123456789")
    assert (info.guess_validation, info.guess_test) == pytest.approx((100 * 130 / 145, 100 * 322 / 359))


def test_check_knows_what_prepare_finds_without_heavy_imports() -> None:
    info = check(DataSpec(limit=100))
    assert info.n_train == 100
    assert info.model_dump() == prepare(DataSpec(limit=100)).info.model_dump(
        exclude={"digest", "mean", "std", "survey"}
    )
    heavy = "{'torch', 'torchvision', 'ray', 'mlflow', 'sklearn'}"
    code = "import sys; from search.data import check; from search.spec import DataSpec; check(DataSpec()); "
    code += f"print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_mean_and_std_are_of_the_training_images_only(tmp_path: Path) -> None:
    prepared = prepare(DataSpec(name=write_npz(tmp_path / "d.npz", n=40)))
    pixels = prepared.train().images.astype(np.float64) / 255
    np.testing.assert_allclose(prepared.info.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(prepared.info.std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)


def test_a_constant_channel_has_a_std_that_can_be_divided_by(tmp_path: Path) -> None:
    name = write_npz(tmp_path / "d.npz", x_train=np.full((20, 4, 5, 3), 7, np.uint8))
    assert prepare(DataSpec(name=name)).info.std == (1 / 255,) * 3


def test_seed_moves_validation_and_leaves_test() -> None:
    one, two = prepare(DataSpec(seed=1)), prepare(DataSpec(seed=2))
    np.testing.assert_array_equal(one.test().images, two.test().images)
    assert set(rows(one.validation())) != set(rows(two.validation()))
    assert per_class(one.validation()) == per_class(two.validation())
    assert one.info.digest != two.info.digest


def test_limit_keeps_some_of_the_training_images_and_all_others() -> None:
    whole, few = prepare(DataSpec()), prepare(DataSpec(limit=100))
    assert len(few.train()) == 100
    assert set(per_class(few.train())) == {10}  # 100 of 1293 is 9.7 to 10.1 of a class: 10 by largest remainder
    assert set(rows(few.train())) < set(rows(whole.train()))
    np.testing.assert_array_equal(few.validation().images, whole.validation().images)


def test_npz_keeps_its_test_split_and_gets_a_channel(tmp_path: Path) -> None:
    x, x_test = np.arange(20 * 6, dtype=np.uint8).reshape(20, 2, 3), np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    spec = DataSpec(name=write_npz(tmp_path / "d.npz", n_test=4, x_train=x, x_test=x_test), validation=0.25)
    prepared = prepare(spec)
    assert prepared.info.shape == (2, 3, 1)
    np.testing.assert_array_equal(prepared.test().images, x_test[..., None])
    np.testing.assert_array_equal(prepared.test().labels, [0, 1, 0, 1])
    both = rows(prepared.train()) + rows(prepared.validation())
    assert sorted(both) == sorted((image.tobytes(), k % 2) for k, image in enumerate(x))
    assert per_class(prepared.validation()) == [3, 3]  # a quarter of ten is 2.5, halves up


def test_npz_with_names_of_classes_and_without_a_test_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 4, 5, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, class_names=np.array(["cat", "dog"]))
    prepared = prepare(DataSpec(name=f"npz:{tmp_path / 'd.npz'}"))
    assert prepared.info.classes == ("cat", "dog")
    splits = [prepared.train(), prepared.validation(), prepared.test()]
    assert [len(split) for split in splits] == [
        28,
        4,
        8,
    ]  # a fifth of each class is tested, a tenth of the rest, rounded, validates
    assert sorted(row for split in splits for row in rows(split)) == sorted(
        (image.tobytes(), k % 2) for k, image in enumerate(x)
    )


def test_images_are_mapped_not_loaded_and_torch_takes_them_as_they_are() -> None:
    import torch

    split = prepare(DataSpec()).train()
    assert isinstance(split.images, np.memmap)
    assert split.images.flags.writeable
    assert torch.from_numpy(split.images).data_ptr() == split.images.ctypes.data


def write_mnist(raw: Path, train: list[int], test: list[int]) -> None:
    """Files as MNIST's home page describes them, with so many images of each digit, whose pixels are all that digit."""
    raw.mkdir(parents=True)
    for split, counts in (("train", train), ("t10k", test)):
        labels = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBi", 0, 8, 1, len(labels)) + labels.tobytes())
        sides = struct.pack(">HBBiii", 0, 8, 3, len(labels), 28, 28)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(sides + labels.repeat(28 * 28).tobytes())


# as https://yann.lecun.com/exdb/mnist has them
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_from_torchvisions_folder(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST/raw", MNIST_TRAIN, MNIST_TEST)
    spec = DataSpec(name="mnist", dir=str(tmp_path))
    assert check(spec).classes == tuple("0123456789")
    prepared = prepare(spec)
    assert prepared.info.shape == (28, 28, 1)
    assert per_class(prepared.test()) == MNIST_TEST
    assert np.array_equal(np.bincount(prepared.whole().labels), MNIST_TRAIN)
    for split in (prepared.train(), prepared.test()):
        assert (split.images == split.labels[:, None, None, None]).all()


def test_files_of_other_images_are_refused(tmp_path: Path) -> None:
    """As many as are published, and others; fewer; and none."""
    raw = tmp_path / "MNIST/raw"
    spec = DataSpec(name="mnist", dir=str(tmp_path))
    write_mnist(raw, [6000] * 10, MNIST_TEST)
    with pytest.raises(InputError, match=r"mnist in .* has other train images than the 60000 that are published; repl"):
        prepare(spec)
    shutil.rmtree(raw)
    write_mnist(raw, MNIST_TRAIN, [1, 1])
    with pytest.raises(InputError, match=r"mnist in .* has other test images than the 10000 that are published; repl"):
        prepare(spec)
    for content in (b"", b"no images", b"\0\0\x08\x03"):
        (raw / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(InputError, match=r"^data\.dir: mnist in .* cannot be read \([^\n]+\); replace its files$"):
            prepare(spec)


@pytest.mark.skipif(not (REAL / "cifar10.npz").exists(), reason="cifar10.npz is not in the user's data folder")
def test_cifar10_from_its_archive() -> None:
    prepared = prepare(DataSpec(name="cifar10", dir=str(REAL)))
    assert per_class(prepared.train()) == [4500] * 10
    assert per_class(prepared.validation()) == [500] * 10
    assert per_class(prepared.test()) == [1000] * 10
    assert prepared.info.classes[prepared.test().labels[0]] == "cat"
    assert prepared.info.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-3)  # published, of all 50000
    assert prepared.info.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-3)


FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not FASHION.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_the_real_files_of_fashion_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in FASHION.iterdir():
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    prepared = prepare(DataSpec(name="fashion-mnist", dir=str(tmp_path), limit=1000))
    assert per_class(prepared.test()) == [1000] * 10
    assert per_class(prepared.validation()) == [600] * 10
    assert prepared.test().labels[:5].tolist() == [9, 2, 1, 1, 6]  # ankle boot, pullover, trouser, trouser, shirt
    assert prepared.info.mean[0] == pytest.approx(0.2860, abs=0.01)  # of all 60000; the limit adds the noise
