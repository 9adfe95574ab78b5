"""Decoding in processes: the same pixels in the same order, one sentence for what goes wrong, and no process left."""

import io
import os
import re
import resource
import signal
import struct
import threading
import zlib
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
    """32 MiB hold 5.2 images of 1448 x 1448."""
    files = write_photographs(tmp_path, 12)
    expected = np.stack([decode(path, 1448) for path in files])
    for processes in (0, 1, 2):
        pieces = list(decoded(files, 1448, processes))
        assert [len(piece) for piece in pieces] == [5, 5, 2]
        np.testing.assert_array_equal(np.concatenate(pieces), expected)
        assert children() == []


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


@pytest.mark.parametrize("shape", [(5, 41_000), (41_000, 5), (1, 1_000_000)])
def test_a_long_strip_is_refused_before_it_takes_memory(tmp_path: Path, shape: tuple[int, int]) -> None:
    """A million pixels in a row would be 224 million in 224 rows: 200 GB."""
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(tmp_path / "strip.png")
    with pytest.raises(InputError) as raised:
        decode(tmp_path / "strip.png", 224)
    assert str(raised.value) == (
        f"data.name: image {tmp_path / 'strip.png'} cannot be decoded ({shape[1]} x {shape[0]} pixels are too long a "
        "strip to be resized; crop it to about a square); replace or remove it"
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_of_8_bits_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """White is white: by the definition of each mode, whatever converts it."""
    Image.new("RGB", (4, 4), "white").convert(mode).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as saved:
        assert saved.mode == mode
    np.testing.assert_array_equal(decode(tmp_path / "a.tif", 2), np.full((2, 2, 3), 255))


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    first, *others = (Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    with Image.open(tmp_path / "a.gif") as saved:
        assert getattr(saved, "n_frames", 1) == 3
    np.testing.assert_array_equal(decode(tmp_path / "a.gif", 2), np.broadcast_to([255, 0, 0], (2, 2, 3)))


def test_a_picture_of_400_million_pixels_is_refused_from_its_header(tmp_path: Path) -> None:
    """20,000 x 20,000 in colour would take 1.2 GB; nothing but the header is there to be read."""
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    start = small.getvalue().index(b"IHDR")
    rest = small.getvalue()[start + len(header) + 4 :]
    (tmp_path / "huge.png").write_bytes(
        small.getvalue()[:start] + header + struct.pack(">I", zlib.crc32(header)) + rest
    )
    with pytest.raises(InputError, match=r"image .*/huge\.png cannot be decoded \(.*400000000 pixels.*\); replace or"):
        decode(tmp_path / "huge.png", 32)


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
    wide.write_bytes(b"P4 9500 9500\n" + bytes(1188 * 9500))  # Pillow warns above 89,478,485 pixels
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


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"P5 40000 40000 255\n", r"cannot be decoded \(Image size \(1600000000 pixels\) .*\); replace or remove it$"),
        (b"P5 4 4 65535\n" + bytes(32), r"has more than 8 bits a channel \(I(;16)?\); convert it to 8 bits$"),
        (b"P6 4 4 255\n" + bytes(40), r"cannot be decoded \(.*\); replace or remove it$"),
        (b"no image", r"cannot be decoded \(cannot identify image file .*\); replace or remove it$"),
    ],
    ids=["a billion pixels", "16 bits", "cut", "none"],
)
def test_an_unfit_image_is_one_sentence(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(InputError, match=rf"^data\.name: image {re.escape(str(tmp_path))}/a\.pgm {cause}"):
        decode(tmp_path / "a.pgm", 8)


@pytest.mark.parametrize("processes", [0, 2])
def test_every_broken_image_is_named(tmp_path: Path, processes: int) -> None:
    files = write_photographs(tmp_path, 60)
    odd = tmp_path / "new\nline \udce9.jpg"  # names are bytes
    for path in (files[50], odd):
        path.write_bytes(files[0].read_bytes()[:400])
    with pytest.raises(InputError) as raised:
        list(decoded([*files[:30], odd, *files[30:]], 8, processes))
    shown = tmp_path / r"new line \udce9.jpg"  # a sentence is one line, and can be printed
    told = str(raised.value)
    assert told.startswith("data.name: 2 images cannot be used; replace, convert or remove them: ")
    assert f"{shown} cannot be decoded (" in told
    assert f"{files[50]} cannot be decoded (" in told
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
    assert re.fullmatch(
        r"data\.name: the processes that decode images have ended early or cannot be started \(DataLoader worker .* "
        r"(killed by signal: Killed.*|exited unexpectedly)\); start again, with more memory or fewer other processes",
        str(raised.value),
    )
    assert children() == []


def test_processes_killed_in_the_middle_of_their_answers_are_told(tmp_path: Path) -> None:
    """They are ahead of the caller: an answer of 16 images of 64 x 64 is three times what a pipe holds."""
    pieces = decoded(write_photographs(tmp_path, 20) * 20, 64, 2)
    next(pieces)
    for child in children():
        child.kill()
    with pytest.raises(InputError, match=r"^data\.name: the processes that decode images have ended early"):
        list(pieces)
    assert children() == []


def test_a_thread_decodes_itself(tmp_path: Path) -> None:
    """Only the main thread is told of the death of a process at once."""
    files = write_photographs(tmp_path, 20)
    started: list[int] = []

    def work() -> None:
        started.extend(len(children()) for _ in decoded(files, 8, 2))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert started == [0, 0]


def test_closing_early_ends_the_processes(tmp_path: Path) -> None:
    pieces = decoded(write_photographs(tmp_path, 50), 724, 2)
    next(pieces)
    assert len(children()) == 2
    pieces.close()
    assert children() == []


def test_too_many_open_files_is_one_sentence(tmp_path: Path) -> None:
    """Some processes start before the next one's pipes are refused."""
    files = write_photographs(tmp_path, 20)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = sorted(set(range(len(taken) + 20)) - taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[5], before[1]))
    try:
        with pytest.raises(InputError) as raised:
            list(decoded(files, 8, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert re.match(r"data\.name: the processes that .* \(.*Too many open files.*\); start", str(raised.value))
    assert children() == []


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
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as Ctrl-C in a terminal
            process.wait(120)
            assert not any(child.is_running() for child in theirs), "even those in the middle of an image"
        else:
            process.send_signal(number)
    _, left = psutil.wait_procs(theirs, timeout=120)
    assert left == []
    errors = process.communicate()[1]
    assert process.returncode == -number
    # Python reports a signal that comes while it closes a file as ignored, with a traceback of its own.
    errors = re.sub(r"^Exception ignored in: <_io\.FileIO .*\nTraceback", "", errors, flags=re.MULTILINE)
    assert errors.count("Traceback") == (1 if number is signal.SIGINT else 0), "the processes end without a word"
