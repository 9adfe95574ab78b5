"""Every input that cannot be used is refused by one sentence, before anything is prepared."""

import gc
import gzip
import http.server
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sample_data import write_folder, write_npz

from search.data import DataSpec, check, prepare
from search.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "cifr10"}, r"^data\.name = 'cifr10' is no known data set; did you mean 'cifar10'\?$"),
        ({"name": "CIFAR-10"}, r"'CIFAR-10' is no known data set; did you mean 'cifar10'\?$"),
        ({"name": "birds"}, r"choose from cifar10, cifar100, digits, fashion-mnist, imagefolder:PATH, npz:PATH, svhn$"),
        ({"name": "npz"}, r"^data\.name = 'npz' has no path; write npz:PATH$"),
        ({"name": "imagefolder:"}, r"has no path; write imagefolder:PATH$"),
        (
            {"name": "npz:/no/such.npz"},
            r"^data\.name: there is no file /no/such\.npz; give the path of an \.npz archive",
        ),
        ({"image_size": 64}, r"^data\.image_size = 64 has no effect on 'digits'; leave it out$"),
        ({"limit": 9}, r"^data\.limit = 9 is not between the 10 classes and the 1293 training images of digits"),
        ({"limit": 1294}, r"^data\.limit = 1294 is not between"),
        (
            {"name": "cifar100", "dir": "/no/such"},
            r"^data\.dir = '/no/such' is no folder; create it, or name the one",
        ),
    ],
)
def test_settings(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(DataSpec(**settings))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"validation": 0},
            r"data\.validation = 0\.0 is not a fraction above 0 and below 0\.9; choose one such as 0\.1",
        ),
        ({"test": 0.9}, r"data\.test = 0\.9 is not a fraction"),
        ({"validation": float("nan")}, r"data\.validation = nan is not a fraction"),
        ({"seed": -1}, r"data\.seed = -1 is negative; choose 0 or more"),
        ({"image_size": 0}, r"data\.image_size = 0 is below 1; choose 1 or more, or leave it out"),
        ({"limit": -5}, r"data\.limit = -5 is below 1; choose 1 or more"),
        ({"sise": 3}, r"sise\n  Extra inputs are not permitted"),
    ],
)
def test_values_out_of_range(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        DataSpec(**settings)


NPZ: list[tuple[dict[str, Any], str]] = [
    ({"x_train": np.zeros((20, 4, 5, 3))}, r"x_train in .* is float64; give pixels from 0 to 255 as uint8$"),
    ({"x_train": np.zeros((20, 9), np.uint8)}, r"x_train in .* has shape \(20, 9\); give \(images, height, width\)"),
    (
        {"x_train": np.zeros((20, 3, 8, 8), np.uint8)},
        r"channels before the rows; save it with numpy\.moveaxis\(x, 1, 3\)",
    ),
    ({"x_train": np.zeros((19, 4, 5, 3), np.uint8)}, r"has 19 images in x_train and 20 labels in y_train; give one"),
    ({"x_test": np.zeros((6, 4, 4, 3), np.uint8)}, r"shape \(4, 5, 3\) and x_test of \(4, 4, 3\); give both the same"),
    (
        {"y_train": np.arange(20) / 2},
        r"y_train in .* is float64 of shape \(20,\); give whole numbers of shape \(images,\)",
    ),
    ({"y_train": np.zeros((20, 2), int)}, r"y_train in .* is int64 of shape \(20, 2\)"),
    ({"y_train": np.array([{}] * 20)}, r"y_train in .* is object of shape \(20,\)"),
    ({"y_train": np.arange(20) % 2 + 1}, r"y_train in .* has no training image of class '0'; add some or renumber$"),
    ({"y_train": np.arange(20) % 2 - 1}, r"y_train in .* has the label -1, outside 0\.\.0"),
    ({"y_train": np.arange(20) * 9}, r"y_train in .* has the label 171 but only 20 images; number the classes 0, 1, 2"),
    ({"y_train": np.zeros(20, int), "y_test": np.zeros(6, int)}, r"has 1 class; give images of at least 2 classes"),
    ({"y_test": np.arange(6)}, r"y_test in .* has the label 5, outside 0\.\.1, the classes of the training images"),
    (
        {"y_train": np.r_[1, np.zeros(19, int)]},
        r"^data\.validation: class '1' has 1 image left, and 2 are needed to carve",
    ),
]


@pytest.mark.parametrize(("changed", "sentence"), NPZ)
def test_archives(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(DataSpec(name=write_npz(tmp_path / "d.npz", **changed)))


def test_archives_that_lack_a_key_or_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(
        InputError, match=r"a\.npz has no array 'y_train' \(it has labels, x_train\); save it with x_train"
    ):
        check(DataSpec(name=f"npz:{tmp_path / 'a.npz'}"))
    (tmp_path / "b.npz").write_text("not an archive")
    with pytest.raises(InputError, match=r"b\.npz cannot be read as an \.npz archive \(File is not a zip file\)"):
        check(DataSpec(name=f"npz:{tmp_path / 'b.npz'}"))


def test_a_damaged_archive_is_refused_when_its_pixels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    spec = DataSpec(name=write_npz(path, n=2000))
    content = bytearray(path.read_bytes())
    content[60_000] ^= 255  # within the pixels of x_train, which stand first
    path.write_bytes(content)
    check(spec)
    with pytest.raises(InputError, match=r"the images in .*d\.npz cannot be read \(Bad CRC-32"):
        prepare(spec)


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        ({"val": {"a": 1}}, r"^data\.name: there is no folder .*/train; give the folder that holds train/"),
        (
            {"train": {}},
            r"there are no class folders in .*/train; put the images of each class into .*/train/CLASS/$",
        ),
        ({"train": {"a": 3}}, r"/train has the one class 'a'; add a second class folder$"),
        (
            {"train": {"a": 3, "b": 0}},
            r"class folder .*/train/b has no image \(\.bmp, .*\); add images or remove it$",
        ),
        (
            {"train": {"a": 3, "b": 3}, "test": {"a": 3, "c": 3}},
            r"class folder 'b' is in .*/train but not in .*/test; give both the same classes$",
        ),
        (
            {"train": {"a": 3, "b": 3}, "val": {"a": 3, "b": 3, "c": 1}},
            r"class folder 'c' is in .*/val but not in .*/train; give both the same classes$",
        ),
        (
            {"train": {"a": 3, "b": 1}},
            r"^data\.test: class 'b' has 1 image left, and 2 are needed to carve the test split",
        ),
        (
            {"train": {"a": 3, "b": 2}},
            r"^data\.validation: class 'b' has 1 image left, and 2 are needed to carve the vali",
        ),
    ],
)
def test_folders(tmp_path: Path, splits: dict[str, dict[str, int]], sentence: str) -> None:
    (tmp_path / "images" / next(iter(splits))).mkdir(parents=True)
    with pytest.raises(InputError, match=sentence):
        check(DataSpec(name=write_folder(tmp_path / "images", splits)))


@pytest.fixture
def refusing_proxy() -> Iterator[list[str]]:
    """A network that refuses every address: a real proxy on the loopback device. Yields what was asked for."""
    asked: list[str] = []

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def do_CONNECT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy"):
            patch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        patch.setenv("no_proxy", "")
        urllib.request.install_opener(urllib.request.build_opener())  # the one in use may know another proxy
        yield asked
    urllib.request.install_opener(urllib.request.build_opener())  # and this one must not outlive the test
    server.shutdown()
    thread.join()
    server.server_close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # urllib leaves the sockets of refused addresses to the collector


@pytest.mark.parametrize(
    ("name", "host"), [("cifar10", "cs.toronto.edu"), ("cifar100", "cs.toronto.edu"), ("svhn", "ufldl")]
)
def test_without_a_network_the_sentence_says_where_files_belong(
    tmp_path: Path, refusing_proxy: list[str], name: str, host: str
) -> None:
    spec = DataSpec(name=name, dir=str(tmp_path))
    assert check(spec).n_test in (10000, 26032)  # the published numbers: nothing was asked for
    assert refusing_proxy == []
    with pytest.raises(InputError) as refused:
        prepare(spec)
    assert str(refused.value).startswith(f"data.name: {name} is not in {tmp_path} and could not be downloaded (")
    assert str(refused.value).endswith("; put its files there, or name their folder with --data-dir")
    assert "\n" not in str(refused.value)
    assert any(host in address for address in refusing_proxy)


def test_fashion_mnist_files_that_are_not_fashion_mnist(tmp_path: Path) -> None:
    header = {
        "images-idx3": b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02" + bytes(8),
        "labels-idx1": b"\0\0\x08\x01\0\0\0\x02\0\1",
    }
    for split in ("train", "t10k"):
        for kind, content in header.items():
            (tmp_path / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    spec = DataSpec(name="fashion-mnist", dir=str(tmp_path))
    with pytest.raises(InputError, match="has 2 training and 2 test images, not the published 60000 and 10000"):
        prepare(spec)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"fashion-mnist in .* cannot be read \(Not a gzipped file .*\); replace"):
        prepare(spec)


def test_cifar10_archive_of_another_shape(tmp_path: Path) -> None:
    write_npz(tmp_path / "cifar10.npz", y_train=np.arange(20) % 10)
    with pytest.raises(
        InputError, match=r"cifar10\.npz has images of shape \(4, 5, 3\), not \(32, 32, 3\); replace it"
    ):
        check(DataSpec(name="cifar10", dir=str(tmp_path)))


def test_damaged_cifar_batches_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    for name in ("train", "test"):
        (tmp_path / "cifar-100-python" / name).write_bytes(b"not the published file")
    with pytest.raises(InputError, match=r"cifar100 in .* cannot be read \(Dataset not found or corrupted.*replace"):
        prepare(DataSpec(name="cifar100", dir=str(tmp_path)))
