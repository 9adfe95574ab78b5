"""What `resnet.load` gives takes images as users have them: converted where that is exact, refused in a sentence."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

import resnet
from resnet.classifier import Exported
from resnet.images import ImageSpec, batch
from search.data.decode import decode
from tests.data.test_data_decode import whole_then_cropped
from tests.support.exported import Made

pytest_plugins = ["tests.support.fixtures_export"]

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
GREY = ImageSpec(height=4, width=6, channels=1)
COLOUR = ImageSpec(height=4, width=6, channels=3)
PHOTOS = ImageSpec(height=8, width=8, channels=3, fit="centre")


def grey(n: int = 2) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, (n, 4, 6, 1), dtype=np.uint8)


def colour(n: int = 2) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, (n, 4, 6, 3), dtype=np.uint8)


def given(images: Any, spec: ImageSpec) -> np.ndarray[Any, Any]:
    return batch(images, spec, CPU).numpy()


def test_a_network_answers_about_images(made: Made) -> None:
    model = resnet.load(made.folder)
    with torch.no_grad():
        logits = model(made.images)
    np.testing.assert_allclose(logits.numpy(), made.logits, rtol=0, atol=1e-4)
    shares = np.exp(made.logits.astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(made.images).numpy(), shares, rtol=0, atol=1e-5)
    assert model.predict(made.images) == [str(k) for k in made.logits.argmax(1)]
    assert model.classes == tuple("0123456789")
    assert not model.training
    assert model(made.images[0]).shape == (1, 10)
    assert model([]).shape == (0, 10)
    assert model.predict([]) == []
    model(made.images[:2]).sum().backward()
    assert all(p.grad is not None for p in model.net.parameters()), "a module to train on"


@pytest.mark.parametrize(
    "change", [np.asarray, torch.from_numpy, list, tuple], ids=["array", "tensor", "list", "tuple"]
)
@pytest.mark.parametrize(("spec", "images"), [(GREY, grey(3)), (COLOUR, colour(3))], ids=["grey", "colour"])
def test_bytes_are_taken_as_they_are(change: Any, spec: ImageSpec, images: Any) -> None:
    assert (given(change(images), spec) == images).all()
    assert (given(change(images)[1], spec) == images[1:2]).all()
    if spec is GREY:  # the channel may be left out
        assert (given(change(images[..., 0]), spec) == images).all()
        assert (given(change(images[..., 0])[1], spec) == images[1:2]).all()


@pytest.mark.parametrize("dtype", ["int64", ">i2", "uint16", "int8"])
def test_whole_numbers_of_other_types(dtype: str) -> None:
    """And memory that torch does not take."""
    images = RNG.integers(0, 128, (2, 4, 6, 3))
    images.flags.writeable = False
    assert (given(images.astype(dtype), COLOUR) == images).all()
    assert (given(torch.from_numpy(images.copy()).to(torch.int32), COLOUR) == images).all()
    assert (given(images[::-1, :, ::-1], COLOUR) == images[::-1, :, ::-1]).all()


def picture(mode: str) -> Image.Image:
    return Image.fromarray(colour(1)[0]).convert(mode)


def test_pictures_where_nothing_is_lost() -> None:
    pixels, level = colour(1)[0], grey(1)[0]
    red = Image.fromarray(pixels)
    assert (given(red, COLOUR)[0] == pixels).all()
    assert (given([red, pixels, red.convert("RGBA")], COLOUR) == pixels).all()
    shade = Image.fromarray(level[..., 0])
    assert (given(shade, GREY)[0] == level).all()
    assert (given(shade, COLOUR)[0] == level).all()  # thrice the same
    assert (given(shade.convert("RGB"), GREY)[0] == level).all()
    assert (given(shade.convert("LA"), GREY)[0] == level).all()
    drawn = red.quantize(16)
    assert (given(drawn, COLOUR)[0] == np.asarray(drawn.convert("RGB"))).all()
    dots = shade.point(lambda v: 255 * (v > 99)).convert("1")
    assert (given(dots, GREY)[0, ..., 0] == 255 * (level[..., 0] > 99)).all()


def test_a_camera_held_upright() -> None:
    """EXIF's orientation 6: the viewer turns it by a quarter to the right."""
    lying = Image.fromarray(RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8))
    exif = lying.getexif()
    exif[0x0112] = 6
    turned = lying.copy()
    turned.info["exif"] = exif.tobytes()
    assert (given(turned, COLOUR)[0] == np.rot90(np.asarray(lying), -1)).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P", "1"])
@pytest.mark.parametrize("size", [(8, 8), (30, 17), (9, 40), (5, 3)])
def test_pictures_of_any_size_become_what_they_were_in_training(
    mode: str, size: tuple[int, int], tmp_path: Path
) -> None:
    drawn = Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 4 if mode == "RGBA" else 3), dtype=np.uint8))
    drawn = drawn.convert(mode)
    path = tmp_path / ("it.tif" if mode == "CMYK" else "it.png")
    drawn.save(path)
    with Image.open(path) as opened:
        assert (given(opened, PHOTOS)[0] == np.asarray(whole_then_cropped(opened.convert("RGB"), 8))).all()
        assert (given(opened, PHOTOS)[0] == decode(path, 8)).all()


def test_pictures_of_another_size_are_resized_and_cropped_and_a_warning_says_so() -> None:
    """Of 16 x 8 pixels for a network that was trained on 6 x 4: 8 x 4, without a column on either side."""
    wide = Image.fromarray(RNG.integers(0, 256, (8, 16, 3), dtype=np.uint8))
    with pytest.warns(
        UserWarning, match="image is 16 x 8 pixels, and this network was trained on 6 x 4: it is resized"
    ):
        found = given(wide, COLOUR)[0]
    assert (found == np.asarray(wide.resize((8, 4), Image.Resampling.BILINEAR))[:, 1:7]).all()


REFUSED: list[tuple[Any, ImageSpec, str]] = [
    (grey() / 255.0, GREY, "images: floats may be on any scale; give uint8 from 0 to 255, such as .*round"),
    (torch.zeros(1, 4, 6, 1), GREY, "images: floats may be on any scale; give uint8"),
    (np.full((4, 6), np.nan), GREY, "images: some values are NaN; give whole numbers from 0 to 255"),
    (grey().astype(int) - 300, GREY, "values from -.* to -.* are no bytes; give whole numbers from 0 to 255"),
    ([np.full((4, 6), 256)], GREY, "image 0: values from 256 to 256 are no bytes"),
    (grey() > 9, GREY, "images: bool is no type of pixels; give uint8"),
    (torch.zeros(4, 6, 1, dtype=torch.bool), GREY, "images: bool is no type of pixels; give uint8"),
    (np.array([["a"]]), GREY, "images: <U1 is no type of pixels; give uint8"),
    (colour()[:, :, :5], COLOUR, r"have shape \(2, 4, 5, 3\), .*reads 4 x 6 pixels; give them as \(n, 4, 6"),
    (colour(), PHOTOS, "reads 8 x 8 pixels; give them as PIL images, which are resized and cropped"),
    (colour(), GREY, r"images have 3 channels, and this network reads 1; give \(n, 4, 6, 1\)"),
    (grey()[0, ..., 0], COLOUR, r"images have 1 channels, and this network reads 3; give \(n, 4, 6, 3\)"),
    (np.moveaxis(colour(), 3, 1), COLOUR, r"shape \(2, 3, 4, 6\), the channels before the rows; .*movedim"),
    (colour()[None], COLOUR, r"images have shape \(1, 2, 4, 6, 3\), and this network reads 4 x 6 pixels"),
    ([colour()], COLOUR, r"image 0 has shape \(2, 4, 6, 3\)"),
    ("photo.jpg", COLOUR, r"images: 'photo.jpg' is a path; give what it holds, such as PIL.Image.open"),
    ([3], COLOUR, "image 0: int is no image; give a uint8 array or tensor, a PIL image, or a list of them"),
    ([picture("RGB")], GREY, "image 0 is in colour, and this network reads grey; convert it to L"),
    (picture("CMYK"), COLOUR, "the image is CMYK, and this network reads 3 channels; convert it to RGB or L"),
    (Image.new("I;16", (6, 4)), GREY, r"the image has more than 8 bits a channel \(I;16\); convert it"),
    (Image.new("F", (6, 4)), PHOTOS, r"the image has more than 8 bits a channel \(F\)"),
    (Image.new("RGBA", (6, 4), (1, 2, 3, 254)), COLOUR, r"the image is transparent \(RGBA\); lay it on"),
    (picture("RGB"), ImageSpec(height=4, width=6, channels=5), "reads 5 channels; give an array"),
    (Image.new("RGB", (10_000_000, 1)), PHOTOS, "10000000 x 1 pixels are too long a strip to be resized; crop it to"),
]


@pytest.mark.parametrize(("images", "spec", "sentence"), REFUSED, ids=[sentence for _, _, sentence in REFUSED])
def test_what_would_change_the_answer_is_refused(images: Any, spec: ImageSpec, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence) as refused:
        batch(images, spec, CPU)
    assert "\n" not in str(refused.value)


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """The two files that are read, to be damaged."""
    (tmp_path / "copy").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(made.folder / name, tmp_path / "copy" / name)
    resnet.load(tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(folder: Path, **changed: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_folders_that_are_not_whole(copy: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nowhere has no config.json; name a folder that `python -m search.exp"
    ):
        resnet.load(copy / "nowhere")
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors; name a folder"):
        resnet.load(copy)
    flipped = bytearray(weights)
    flipped[-5] ^= 1
    for damaged in (weights[:-1], bytes(flipped), b""):
        (copy / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is not the file that config.json was written with; export again"):
            resnet.load(copy)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"format": 2}, "has format 2, and this version reads 1; install the one that wrote it"),
        ({"classes": ["0"]}, "has 1 names for 10 classes; export again"),
        ({"std": [0.0]}, "has means or deviations that nothing can be scaled with"),
        ({"mean": [0.1, 0.2]}, "has 2 means and 1 deviations for 1 channels"),
        ({"image": {"height": 2, "width": 2, "channels": 1}}, "use images of at least 4x4 pixels; export again"),
        ({"net": {"depth": 9}}, r"net depth 9 is not 6n\+2"),
        ({"weights_sha256": None}, "weights_sha256 .*valid string; export again"),
    ],
)
def test_descriptions_that_are_not_right(changed: dict[str, Any], sentence: str, copy: Path) -> None:
    rewrite(copy, **changed)
    with pytest.raises(ValueError, match=rf"{re.escape(str(copy))}/config.json:? .*{sentence}") as refused:
        resnet.load(copy)
    assert "\n" not in str(refused.value)


def test_no_description_at_all(copy: Path) -> None:
    for text in ("", "{", "[]", "{}", "[" * 100_000, '{"format": [1]}', '{"format": ' + "[" * 900 + "]" * 900 + "}"):
        (copy / "config.json").write_text(text)
        with pytest.raises(ValueError, match="is no description of an exported network; export again"):
            resnet.load(copy)


def header(text: bytes) -> bytes:
    """A safetensors file that begins with this header: its length, 8 bytes, and itself."""
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        header(b"{"),
        header(b'{"a":' * 100_000),
        header(b'{"a":{"dtype":"F8_E8M0","shape":[2000000],"data_offsets":[0,2000000]}}') + bytes(2_000_000),
        header(b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,2000000]}}') + bytes(2_000_000),
        bytes(2_000_000),
        save({"fc.bias": torch.zeros(10), "other": torch.zeros(800_000)}),
    ],
    ids=["empty", "header", "deep", "numbers", "size", "zeros", "of another network"],
)
def test_weights_that_are_none(data: bytes, copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(data)
    rewrite(copy, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ValueError, match=r"has not the weights of the network in config.json \(") as refused:
        resnet.load(copy)
    assert "\n" not in str(refused.value)


def test_a_network_without_its_weights_is_not_built(copy: Path) -> None:
    """9,998 layers and 64 times the channels are 660 billion numbers: 2.6 TB."""
    rewrite(copy, net={"depth": 9998, "width": 64, "in_channels": 1})
    with pytest.raises(ValueError, match=r"has not the weights of the network in config.json \(it is too short\)"):
        resnet.load(copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_no_file(name: str, copy: Path) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(FileNotFoundError, match=f"has no {name}; name a folder"):
        resnet.load(copy)


def test_a_description_comes_back(made: Made) -> None:
    config = resnet.load(made.folder).config
    assert Exported.model_validate_json(config.model_dump_json()) == config
    assert (config.net, config.mean) == (made.model.spec.net, made.model.data.info.mean)
