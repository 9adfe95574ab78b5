"""Every input that cannot be used is refused by one sentence, before anything is prepared."""

import gc
import http.server
import math
import os
import re
import struct
import threading
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.data import check, prepare
from search.errors import InputError
from search.spec import DataSpec
from tests.support.sample_data import write_folder, write_npz


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "cifr10"}, r"^data\.name = 'cifr10' is no known data set; did you mean 'cifar10'\?$"),
        ({"name": "CIFAR-10"}, r"'CIFAR-10' is no known data set; did you mean 'cifar10'\?$"),
        ({"name": "birds"}, r"choose from cifar10, cifar100, digits, .*, imagefolder:PATH, mnist, npz:PATH, svhn$"),
        ({"name": "npz"}, r"^data\.name = 'npz' has no path; write npz:PATH$"),
        ({"name": "imagefolder:"}, r"has no path; write imagefolder:PATH$"),
        ({"name": "npz:/no/such.npz"}, r"^data\.name: /no/such\.npz does not exist; give the path of an \.npz archive"),
        ({"image_size": 64}, r"^data\.image_size = 64 has no effect on 'digits'; leave it out$"),
        ({"limit": 9}, r"^data\.limit = 9 is not between the 10 classes and the 1293 training images of digits"),
        ({"limit": 1294}, r"^data\.limit = 1294 is not between"),
        ({"name": "cifar100", "dir": "/no/such"}, r"^data\.dir = '/no/such' is no folder; create it, or name the one"),
    ],
)
def test_settings(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(DataSpec(**settings))


NPZ: list[tuple[dict[str, Any], str]] = [
    ({"x_train": np.zeros((20, 4, 5, 3))}, r"x_train in .* is float64; give pixels from 0 to 255 as uint8$"),
    ({"x_train": np.zeros((20, 9), np.uint8)}, r"x_train in .* has shape \(20, 9\); give \(images, height, width\)"),
    ({"x_train": np.zeros((20, 3, 8, 8), np.uint8)}, r"before the rows; save it with numpy\.moveaxis\(x, 1, 3\)"),
    ({"x_train": np.zeros((19, 4, 5, 3), np.uint8)}, r"has 19 images in x_train and 20 labels in y_train; give one"),
    ({"x_test": np.zeros((6, 4, 4, 3), np.uint8)}, r"shape \(4, 5, 3\) and x_test of \(4, 4, 3\); give both the same"),
    ({"y_train": np.arange(20) / 2}, r"y_train in .* is float64 of shape \(20,\); give whole numbers of shape \(im"),
    ({"y_train": np.zeros((20, 2), int)}, r"y_train in .* is int64 of shape \(20, 2\)"),
    ({"y_train": np.array([{}] * 20)}, r"y_train in .* is object of shape \(20,\)"),
    ({"y_train": np.arange(20) % 2 + 1}, r"y_train in .* has no training image of class '0'; add some or renumber$"),
    ({"y_train": np.arange(20) % 2 - 1}, r"y_train in .* has the label -1, outside 0\.\.0"),
    ({"y_train": np.arange(20) * 9}, r"y_train in .* has the label 171 but only 20 images; number the classes 0, 1, 2"),
    ({"y_train": np.zeros(20, int), "y_test": np.zeros(6, int)}, r"has 1 class; give images of at least 2 classes"),
    ({"y_test": np.arange(6)}, r"y_test in .* has the label 5, outside 0\.\.1, the classes of the training images"),
    (
        {"class_names": np.array(["a", "a"])},
        r"class_names in .* is <U1 of shape \(2,\); give a word for each class, all",
    ),
    ({"class_names": np.array([b"a", b"b"])}, r"class_names in .* is \|S1 of shape \(2,\); give a word for each class"),
    ({"class_names": np.array(["a", "b\n"])}, r"class_names in .*, all different and without control characters$"),
    ({"class_names": np.array(["a", "b", "c"])}, r"y_train in .* has no training image of class '2'; add some"),
    ({"class_names": np.array(["a"])}, r"y_train in .* has the label 1, outside 0\.\.0"),
    ({"y_train": np.r_[1, np.zeros(19, int)]}, r"^data\.validation: class '1' has 1 image left, and 2 are needed to"),
]


@pytest.mark.parametrize(("changed", "sentence"), NPZ)
def test_archives(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(DataSpec(name=write_npz(tmp_path / "d.npz", **changed)))


def test_archives_that_lack_a_key_or_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(InputError, match=r"a\.npz has no array 'y_train' \(it has labels, x_train\); save it with"):
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
    with pytest.raises(InputError, match=r"d\.npz cannot be read as an \.npz archive \(Bad CRC-32"):
        prepare(spec)


def header(text: str) -> bytes:
    """The beginning of an array's file, by the description of NumPy's format 1.0."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


def crafted(path: Path, headers: dict[str, str], listed: dict[str, int] | None = None) -> DataSpec:
    """An archive of arrays with these headers, that lists some as of a size which they do not have."""
    name = write_npz(path)
    with zipfile.ZipFile(path) as archive:
        members = {member.removesuffix(".npy"): archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, content in members.items():
            archive.writestr(f"{key}.npy", header(headers[key]) + content[128:] if key in headers else content)
        for key, size in (listed or {}).items():  # the list stands at the archive's end, and is yet to be written
            archive.getinfo(f"{key}.npy").file_size = size
    return DataSpec(name=name)


def described(shape: str, kind: str = "|u1") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("key", "text", "sentence"),
    [
        ("y_train", described("(1000000000000,)", "<i8"), r"has 20 images in x_train and 1000000000000 labels in y"),
        ("y_train", described("(-20,)", "<i8"), r"y_train in .* is int64 of shape \(-20,\); give whole numbers of"),
        ("x_train", described("(20, -4, 5, 3)"), r"x_train in .* has shape \(20, -4, 5, 3\); give \(images, height"),
        ("x_train", described("(20, 100000, 100000, 3)"), r"x_train in .* has 1,.* bytes .* needs 600,000,000,000; "),
        ("y_train", described("(20,)", "|i999999999999"), r"cannot be read as an \.npz archive \(descr is not a valid"),
        ("y_train", described("(20,)", "|O"), r"y_train in .* is object of shape \(20,\); give whole numbers"),
        ("y_train", "{'descr': '<i8', 'shape': (20,", r"cannot be read as an \.npz archive \(y_train has a damaged h"),
        ("y_train", "{1: 2, 'a': 3}", r"cannot be read as an \.npz archive \(y_train has a damaged header\); write it"),
        ("y_train", "-" * 9000 + "1", r"cannot be read as an \.npz archive \(.*\); write it again$"),
    ],
    ids=["labels", "negative", "negative side", "pixels", "type", "object", "cut", "keys", "deep"],
)
def test_headers_that_promise_what_is_not_there(tmp_path: Path, key: str, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(crafted(tmp_path / "d.npz", {key: text}))


def test_more_than_the_memory_is_refused_from_the_headers(tmp_path: Path) -> None:
    """Zeros compress a thousand times: the archive lists them, and could even hold them."""
    memory = int(re.findall(r"MemTotal: *(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024
    side = math.isqrt(memory // 40) + 1
    headers = {"x_train": described(f"(20, {side}, {side}, 2)"), "x_test": described(f"(6, {side}, {side}, 2)")}
    spec = crafted(tmp_path / "d.npz", headers, {"x_train": 40 * side**2 + 128, "x_test": 12 * side**2 + 128})
    with pytest.raises(InputError) as raised:
        check(spec)
    needed, there = re.findall(r"take ([\d,.]+) GB of memory, and .* has ([\d,.]+) GB;", str(raised.value))[0]
    assert float(needed.replace(",", "")) == pytest.approx(52 * side**2 / 1e9, abs=0.051)
    assert float(there.replace(",", "")) <= memory / 1e9 + 0.051  # a container can have less


def test_archives_that_are_encrypted_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    spec = DataSpec(name=write_npz(path))
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.getinfo("y_train.npy").flag_bits |= 1  # "encrypted", in the list that is written again
        archive.writestr("more", b"")
    with pytest.raises(InputError, match=r"cannot be read as an \.npz archive \(.*y_train\.npy.* is encrypted"):
        check(spec)
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"d\.npz cannot be read as an \.npz archive \(.*\); write it again$"):
            check(spec)


def test_a_member_with_the_bare_name_is_not_taken_for_the_array(tmp_path: Path) -> None:
    """NumPy's own look-up prefers it; what was checked is the other."""
    spec = DataSpec(name=write_npz(tmp_path / "d.npz"))
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr("y_train", b"0")
    assert check(spec).n_train == 18


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: os.mkfifo(path), r"d\.npz is no regular file"),
        (lambda path: path.mkdir(), r"d\.npz is a folder"),
        (lambda path: path.symlink_to("gone.npz"), r"gone\.npz does not exist"),
        (lambda path: path.symlink_to("/dev/zero"), r"/dev/zero is no regular file"),
        (lambda path: path.symlink_to("d.npz"), r"d\.npz' is no path"),
    ],
    ids=["pipe", "folder", "dangling", "device", "loop"],
)
def test_what_is_no_file_is_refused_before_it_is_opened(
    tmp_path: Path, make: Callable[[Path], None], cause: str
) -> None:
    make(tmp_path / "d.npz")
    with pytest.raises(InputError, match=rf"^data\.name: .*{cause}.*; (give the path of an \.npz archive|correct it)"):
        check(DataSpec(name=f"npz:{tmp_path / 'd.npz'}"))


@pytest.mark.parametrize("kind", ["npz:", "imagefolder:", ""])
@pytest.mark.parametrize("path", ["~no-such-user/d", "zero\0byte", "round", "x" * 300])
def test_what_cannot_be_a_path(tmp_path: Path, kind: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("round").symlink_to("round")
    with pytest.raises(InputError, match=r"^data[^\n]*; (correct it|give |create it, or name)"):
        check(DataSpec(name=kind + path) if kind else DataSpec(name="cifar100", dir=path))


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        ({"val": {"a": 1}}, r"^data\.name: there is no folder .*/train; give the folder that holds train/"),
        ({"train": {}}, r"no class folders in .*/train; put the images of each class into .*/train/CLASS/$"),
        ({"train": {"a": 3}}, r"/train has the one class 'a'; add a second class folder$"),
        ({"train": {"a": 3, "b": 0}}, r"class folder .*/train/b has no image \(\.bmp, .*\); add images or remove it$"),
        (
            {"train": {"a": 3, "b": 3}, "test": {"a": 3, "c": 3}},
            r"'b' is in .*/train but not in .*/test; give both the same classes$",
        ),
        (
            {"train": {"a": 3, "b": 3}, "val": {"a": 3, "b": 3, "c": 1}},
            r"class folder 'c' is in .*/val but not in .*/train; give both the same classes$",
        ),
        ({"train": {"a": 3, "b": 1}}, r"^data\.test: class 'b' has 1 image left, and 2 are needed to carve the test"),
        ({"train": {"a": 3, "b": 2}}, r"^data\.validation: class 'b' has 1 image left, and 2 are needed to carve"),
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
    ("name", "host"),
    [("cifar10", "toronto.edu"), ("cifar100", "toronto.edu"), ("mnist", "mnist"), ("svhn", "ufldl")],
)
def test_without_a_network_the_sentence_says_where_files_belong(
    tmp_path: Path, refusing_proxy: list[str], name: str, host: str
) -> None:
    spec = DataSpec(name=name, dir=str(tmp_path))
    assert check(spec).n_test in (10_000, 26_032)  # the published numbers: nothing was asked for
    assert refusing_proxy == []
    with pytest.raises(InputError) as refused:
        prepare(spec)
    assert str(refused.value).startswith(f"data.name: {name} is not in {tmp_path} and could not be downloaded (")
    assert str(refused.value).endswith("; put its files there, or name their folder with --data-dir")
    assert "\n" not in str(refused.value)
    assert any(host in address for address in refusing_proxy)


def test_cifar10_archive_of_another_shape(tmp_path: Path) -> None:
    write_npz(tmp_path / "cifar10.npz", y_train=np.arange(20) % 10)
    with pytest.raises(InputError, match=r"cifar10\.npz has images of shape \(4, 5, 3\), not \(32, 32, 3\); replac"):
        check(DataSpec(name="cifar10", dir=str(tmp_path)))


def dangle(path: Path) -> None:
    path.symlink_to("/gone/file")


@pytest.mark.parametrize(
    ("name", "file"),
    [("cifar10", "cifar10.npz"), ("svhn", "test_32x32.mat"), ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte")],
)
def test_raw_files_that_are_none_are_not_downloaded_into(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    for make, cause in ((os.mkfifo, "is no regular file"), (dangle, "is a link that leads to no file")):
        make(tmp_path / file)
        with pytest.raises(InputError, match=rf"^data.*{file} {cause}; (replace or remove it|give the path)"):
            check(DataSpec(name=name, dir=str(tmp_path)))
        (tmp_path / file).unlink()


def test_damaged_cifar_batches_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    for name in ("train", "test", "meta"):
        (tmp_path / "cifar-100-python" / name).write_bytes(b"not the published file")
    with pytest.raises(InputError, match=r"cifar100 in .* cannot be read \(Dataset not found or corrupted.*replace"):
        prepare(DataSpec(name="cifar100", dir=str(tmp_path)))


@pytest.mark.parametrize("channels", [1, 3])
def test_archives_are_resized_as_pillow_does(tmp_path: Path, channels: int) -> None:
    shape = (20, 90, 60, channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(20) % 2, x_test=images[:5], y_test=np.arange(5) % 2)
    prepared = prepare(DataSpec(name=f"npz:{tmp_path / 'a.npz'}", image_size=30))
    assert prepared.info.shape == (30, 30, channels)
    expected = [
        np.asarray(Image.fromarray(one.squeeze()).resize((30, 45), Image.Resampling.BILINEAR).crop((0, 7, 30, 37)))
        for one in images[:5]
    ]
    np.testing.assert_array_equal(prepared.test().images, np.stack(expected).reshape(5, 30, 30, channels))


def test_archives_of_other_channels_are_not_resized(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((9, 8, 8, 4), np.uint8), y_train=np.arange(9) % 2)
    with pytest.raises(
        InputError, match=r"^data\.image_size = 4 is for images of 1 or 3 channels, not 4; leave it out$"
    ):
        check(DataSpec(name=f"npz:{tmp_path / 'a.npz'}", image_size=4))
