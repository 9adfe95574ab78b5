"""Decoding in processes: the same pixels in the same order, one sentence for what goes wrong, and no process left."""

import io
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from search.data.decode import decode, decoded, processes_for
from search.errors import InputError
from search.machine import usable
from search.spec import DataSpec
from tests.support.sample_data import held, preparing, write_folder

_others: set[int] = set()


@pytest.fixture(autouse=True)
def _processes_of_other_tests() -> None:
    _others.clear()
    _others.update(child.pid for child in psutil.Process().children())


def children() -> list[psutil.Process]:
    """Those that this test has started."""
    return [child for child in psutil.Process().children() if child.pid not in _others]


def write_photographs(folder: Path, n: int) -> list[Path]:
    """JPEG files of different sizes: pieces of photographs."""
    photographs = load_sample_images().images
    paths = [folder / f"{k}.jpg" for k in range(n)]
    for k, path in enumerate(paths):
        top, left, height, width = 3 * k, 2 * k, 20 + k % 7, 20 + k % 11
        Image.fromarray(photographs[k % 2][top : top + height, left : left + width]).save(path)
    return paths


@pytest.mark.parametrize(
    ("files", "cores", "processes"),
    [(20, 64, 0), (511, 64, 0), (512, 64, 2), (1300, 64, 5), (10**6, 64, 64), (10**6, 1, 0)],
)
def test_a_process_for_each_256_files_and_no_more_than_cores(files: int, cores: int, processes: int) -> None:
    assert processes_for(files, cores) == processes


def test_pixels_do_not_depend_on_the_processes(tmp_path: Path) -> None:
    """44 images of 724 x 724 come in three pieces, and each of two pieces in two requests."""
    files = write_photographs(tmp_path, 44)
    expected = np.stack([decode(path, 724) for path in files])
    for processes in (0, 1, 3):
        pieces = list(decoded(files, 724, processes))
        assert [len(piece) for piece in pieces] == [21, 21, 2]  # 32 MiB hold 21.3 images of 1,572,528 bytes
        np.testing.assert_array_equal(np.concatenate(pieces), expected)
        assert children() == []


def test_the_pixels_are_in_order(tmp_path: Path) -> None:
    for k in range(200):
        Image.new("RGB", (3, 3), (k, 255 - k, 0)).save(tmp_path / f"{k}.png")
    (piece,) = decoded([tmp_path / f"{k}.png" for k in range(200)], 2, 2)
    assert piece[:, 1, 1].tolist() == [[k, 255 - k, 0] for k in range(200)]


def whole_then_cropped(image: Image.Image, size: int) -> Image.Image:
    """By Pillow's own resizing of the whole image, as torchvision's Resize and CenterCrop do it."""
    width, height = image.size
    scale = size / min(width, height)
    resized = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return resized.crop((left, top, left + size, top + size))


@pytest.mark.parametrize("size", [8, 32, 224])
@pytest.mark.parametrize(("width", "height"), [(640, 427), (427, 640), (31, 17), (300, 300), (640, 3), (1, 400)])
def test_usual_images_are_those_of_pillow_to_the_bit(tmp_path: Path, width: int, height: int, size: int) -> None:
    photograph = Image.fromarray(load_sample_images().images[0]).resize((width, height))
    photograph.save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png", size), np.asarray(whole_then_cropped(photograph, size)))


@pytest.mark.parametrize("turned", [False, True])
def test_a_long_strip_is_cropped_before_it_is_resized(tmp_path: Path, turned: bool) -> None:
    """Of 41,000 x 5 pixels, 524,800 x 64 would be made; Pillow's box is in single precision, hence one level."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 41_000, 3), dtype=np.uint8)
    strip = Image.fromarray(pixels.transpose(1, 0, 2).copy() if turned else pixels)
    strip.save(tmp_path / "strip.png")
    expected = np.asarray(whole_then_cropped(strip, 64)).astype(int)
    assert np.abs(decode(tmp_path / "strip.png", 64) - expected).max() <= 1


def test_the_longest_strip_takes_little_memory(tmp_path: Path) -> None:
    """A million pixels in a row would be 224 million in 224 rows: 200 GB."""
    row = np.zeros((1, 1_000_000, 3), np.uint8)
    row[:, 499_999:500_001] = (10, 200, 30)  # the crop keeps half of each
    Image.fromarray(row).save(tmp_path / "row.png")
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); "
    code += "from search.data.decode import decode; from pathlib import Path; "
    code += "print(decode(Path(sys.argv[1]), 224)[:, [0, -1]].tolist() == [[[10, 200, 30]] * 2] * 224)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "row.png"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("processes", [0, 2])
def test_what_pillow_warns_of_and_logs_is_not_shown(
    tmp_path: Path, processes: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python's own test fails on a warning; a process would print it."""
    usual = write_photographs(tmp_path, 2)[0]
    glass = Image.new("P", (4, 4))
    glass.putpalette([9, 8, 7])
    glass.save(tmp_path / "glass.png", transparency=bytes([5]))
    wide = tmp_path / "wide.pgm"
    wide.write_bytes(
        b"P4 9500 9500\n" + bytes(1188 * 9500)
    )  # 90,250,000 pixels of a bit: Pillow warns above 89,478,485
    many = io.BytesIO()
    Image.new("RGB", (4, 4)).save(many, "TIFF")
    samples = struct.pack("<HHIH", 277, 3, 1, 3)  # the entry that says how many values a pixel has
    assert many.getvalue().count(samples) == 1
    (tmp_path / "many.tif").write_bytes(many.getvalue().replace(samples, struct.pack("<HHIH", 277, 3, 1, 30_000)))
    (pixels,) = decoded([usual, tmp_path / "glass.png", wide], 2, processes)
    np.testing.assert_array_equal(pixels[1], np.broadcast_to([9, 8, 7], (2, 2, 3)))
    with pytest.raises(InputError, match=r"image .*many\.tif cannot be decoded"):
        list(decoded([tmp_path / "many.tif"], 2, processes))
    assert capfd.readouterr() == ("", "")


def test_an_image_of_a_billion_pixels_is_one_sentence(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pgm"
    bomb.write_bytes(b"P5 40000 40000 255\n")
    with pytest.raises(InputError) as raised:
        decode(bomb, 8)
    assert str(raised.value).startswith(f"data.name: image {bomb} cannot be decoded (Image size (1600000000 pixels) ")
    assert str(raised.value).endswith("; replace or remove it")


@pytest.mark.parametrize("processes", [0, 2])
def test_the_first_broken_image_is_named(tmp_path: Path, processes: int) -> None:
    files = write_photographs(tmp_path, 60)
    odd = tmp_path / "new\nline \udce9.jpg"  # names are bytes
    for path in (files[50], odd):
        path.write_bytes(files[0].read_bytes()[:400])
    with pytest.raises(InputError) as raised:
        list(decoded([*files[:30], odd, *files[30:]], 8, processes))
    shown = tmp_path / r"new line \udce9.jpg"  # a sentence is one line, and can be printed
    assert str(raised.value).startswith(f"data.name: image {shown} cannot be decoded (")
    assert str(raised.value).endswith("); replace or remove it")
    assert children() == []


def test_a_killed_process_is_one_sentence(tmp_path: Path) -> None:
    """A pipe in the place of an image: the process waits for its content, and is killed."""
    files = write_photographs(tmp_path, 40)
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)

    def kill() -> None:
        with pipe.open("wb"):  # opens when the process reads it
            for child in children():
                child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(InputError) as raised:
        list(decoded([*files[:5], pipe, *files[5:]], 8, 2))
    killer.join()
    assert str(raised.value) == (
        f"data.name: the process that was decoding image {pipe} was killed by signal 9; start again, with more memory "
        "free if it was the system that killed it"
    )
    assert children() == []


def test_closing_early_ends_the_processes(tmp_path: Path) -> None:
    pieces = decoded(write_photographs(tmp_path, 50), 724, 2)
    next(pieces)
    started = children()
    assert len(started) == 2
    assert all(os.getpgid(child.pid) == child.pid for child in started), "Ctrl-C goes to the parent alone"
    pieces.close()
    assert children() == []


def test_too_many_open_files_is_one_sentence(tmp_path: Path) -> None:
    """Some processes start before the next one's pipes are refused."""
    files = write_photographs(tmp_path, 20)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = sorted(set(range(len(taken) + 20)) - taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[12], before[1]))
    try:
        with pytest.raises(InputError) as raised:
            list(decoded(files, 8, 200))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert str(raised.value).startswith("data.name: no process to decode images can be started (")
    assert "Too many open files" in str(raised.value)
    assert children() == []


def test_decoding_processes_import_neither_torch_nor_the_main_module(tmp_path: Path) -> None:
    pieces = decoded(write_photographs(tmp_path, 50), 724, 1)
    next(pieces)
    (child,) = children()
    mapped = {Path(region.path).name for region in child.memory_maps()}
    assert any(name.startswith("_imaging.") for name in mapped), "Pillow"
    assert not any("torch" in name for name in mapped)
    pieces.close()


@pytest.mark.skipif(usable() < 2, reason="one core decodes without processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_the_preparation_ends_its_processes_do(tmp_path: Path, number: signal.Signals) -> None:
    few = {"a": 20, "b": 20}
    name = write_folder(tmp_path / "images", {"train": few, "val": few, "test": few}, size=(4, 4))
    for k in range(500):
        os.link(tmp_path / "images/train/a/0.png", tmp_path / f"images/train/a/again{k}.png")
    process = preparing(DataSpec(name=name).model_dump_json())
    assert process.stdin is not None
    with held(tmp_path / "images/train/a/1.png") as wait:
        process.stdin.write("go\n")
        process.stdin.flush()
        wait()
        theirs = psutil.Process(process.pid).children()
        assert len(theirs) == 2
        process.send_signal(number)
        if number is signal.SIGINT:
            process.wait(120)
            assert not any(child.is_running() for child in theirs), "even those in the middle of an image"
    _, left = psutil.wait_procs(theirs, timeout=120)
    assert left == []
    errors = process.communicate()[1]
    assert process.returncode == -number
    assert errors.count("Traceback") == (1 if number is signal.SIGINT else 0), "the processes end without a word"
