"""What is seen of a folder of images: sizes, and images that are nearly the same in test and training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from search.data import prepare
from search.errors import InputError
from search.spec import DataSpec, Survey

TILE = 106  # pixels


def tiles() -> list[Image.Image]:
    """Pieces of two photographs that do not overlap, those with most in them first."""
    found: list[Image.Image] = []
    for photo in map(Image.fromarray, load_sample_images().images):
        lefts, tops = range(0, photo.width - TILE + 1, TILE), range(0, photo.height - TILE + 1, TILE)
        found += [photo.crop((left, top, left + TILE, top + TILE)) for top in tops for left in lefts]
    return sorted(found, key=lambda piece: -float(np.asarray(piece).std()))


def save(root: Path, **images: list[Image.Image]) -> None:
    """ROOT/SPLIT/CLASS/K.png, the classes in turns."""
    for split, pictures in images.items():
        for k, picture in enumerate(pictures):
            path = root / split / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def survey(root: Path, **options: object) -> Survey:
    found = prepare(DataSpec.model_validate({"name": f"imagefolder:{root}", **options})).info.survey
    assert found is not None
    return found


def compressed(picture: Image.Image) -> Image.Image:
    picture.save("again.jpg", quality=50)
    return Image.open("again.jpg")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "copied": lambda picture: picture,
    "smaller": lambda picture: picture.resize((64, 64)),
    "compressed": compressed,
    "mirrored": ImageOps.mirror,
    "mirrored and smaller": lambda picture: ImageOps.mirror(picture).resize((80, 80)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_test_images_that_are_in_training_too_are_found_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Image.Image], Image.Image]
) -> None:
    monkeypatch.chdir(tmp_path)
    every = tiles()
    train, test = every[::2], [*every[1::4], *map(change, every[0:12:2])]
    save(tmp_path / "photos", train=train, test=test)
    seen = survey(tmp_path / "photos", validation=0.2)
    first = len(test) - 6
    assert dict(seen.shared) == {
        f"test/{'ab'[k % 2]}/{k}.png": f"train/{'ab'[j % 2]}/{j}.png" for j, k in enumerate(range(first, len(test)))
    }
    assert not seen.left_out, "the split is the user's own"


def test_they_are_left_out_of_a_test_split_that_is_made_here(tmp_path: Path) -> None:
    pictures = tiles()
    save(tmp_path, photos=[*pictures, *map(ImageOps.mirror, pictures[:30])])
    root = tmp_path / "photos"
    whole = prepare(DataSpec(name=f"imagefolder:{root}", image_size=TILE, test=0.3, drop_duplicates=False))
    kept = prepare(DataSpec(name=f"imagefolder:{root}", image_size=TILE, test=0.3))
    seen = kept.info.survey
    assert seen is not None
    assert len(seen.shared) > 5
    assert seen.left_out
    assert kept.info.n_test == len(kept.test()) == whole.info.n_test - len(seen.shared)
    assert kept.train().images.tobytes() == whole.train().images.tobytes()
    known = {image.tobytes() for image in (*kept.whole().images, *kept.whole().images[:, :, ::-1])}
    assert {image.tobytes() for image in whole.test().images} & known, "as long as they are not left out"
    assert not {image.tobytes() for image in kept.test().images} & known
    counts = np.bincount(kept.test().labels)
    for name, image in zip(kept.test_names(), kept.test().images, strict=True):
        assert np.array_equal(np.asarray(Image.open(root / name)), image), name
    assert kept.info.counts_test == tuple(counts)
    assert kept.info.guess_test == pytest.approx(100 * (1 - counts.max() / counts.sum()))


def test_a_test_split_of_nothing_else_is_refused(tmp_path: Path) -> None:
    pictures = tiles()[:10]
    save(tmp_path, train=pictures, test=pictures[:4])
    with pytest.raises(InputError, match=r"data\.drop_duplicates: all 4 test images are nearly the same"):
        survey(tmp_path, drop_duplicates=True)


def test_sizes_grey_and_repeated_images_are_counted(tmp_path: Path) -> None:
    pictures = tiles()[:12]
    grey, small, wide = pictures[0].convert("L"), pictures[1].resize((20, 30)), Image.new("RGB", (500, 80), "red")
    save(tmp_path, train=[*pictures[2:], grey, small, wide, pictures[2].resize((80, 80))], test=pictures[:2])
    seen = survey(tmp_path, image_size=32)
    assert (seen.shortest, seen.median, seen.longest) == (20, TILE, 500)
    assert (seen.enlarged, seen.grey, seen.repeated) == (1, 1, 1)
    assert seen.counts == {"a": 8, "b": 8}
    assert "uneven" not in seen.facts()


def test_a_class_of_few_images_is_named(tmp_path: Path) -> None:
    for k, picture in enumerate(tiles()):
        folder = tmp_path / "train" / ("rare" if k < 4 else "often")
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{k}.png")
    facts = survey(tmp_path, test=0.5, validation=0.5).facts()
    assert facts["uneven"].startswith(f"rare has 4 images, often {len(tiles()) - 4};")
    assert "--set train.class_weights=balanced" in facts["uneven"]


def grouped(root: Path, groups: int, *lines: str) -> str:
    """Sixty plain images of two classes in groups, whole classes apart; the path of the file that says so."""
    for k in range(60):
        path = root / "photos" / "ab"[k // 30] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, k, k)).save(path)
    rows = [f"{'ab'[k // 30]}/{k}.png,{'ab'[k // 30]}{k % groups}" for k in range(60)]
    (root / "groups.csv").write_text("\n".join(["path,group", *rows, *lines]))
    return str(root / "groups.csv")


@pytest.mark.parametrize("seed", range(3))
def test_a_group_is_in_one_split_only(tmp_path: Path, seed: int) -> None:
    file = grouped(tmp_path, groups=10)
    spec = DataSpec(name=f"imagefolder:{tmp_path / 'photos'}", groups=file, test=0.3, validation=0.3, seed=seed)
    prepared = prepare(spec)
    splits = [split.images[:, 0, 0, 0].tolist() for split in (prepared.train(), prepared.validation(), prepared.test())]
    of = [{(k // 30, k % 10) for k in split} for split in splits]
    assert sorted(k for split in splits for k in split) == list(range(60))
    assert not of[0] & of[1] | of[0] & of[2] | of[1] & of[2]
    assert abs(len(splits[2]) - 18) <= 3, "within a group of three"
    assert abs(len(splits[1]) - 12.6) <= 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/0.png,x\n", "lacks 59 of 60 images of train, such as a/1.png; give each image its group"),
        ("a/0.png\n", "has a line of 1 fields, 'a/0.png'; write PATH,GROUP"),
        (None, "does not exist; give a CSV file of lines PATH,GROUP"),
    ],
)
def test_a_file_of_groups_that_does_not_fit_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    file = Path(grouped(tmp_path, groups=10))
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(InputError, match=r"^data\.groups: ") as refused:
        prepare(DataSpec(name=f"imagefolder:{tmp_path / 'photos'}", groups=str(file)))
    assert said in str(refused.value)


def test_groups_too_large_to_carve_are_refused(tmp_path: Path) -> None:
    file = grouped(tmp_path, groups=1)
    with pytest.raises(InputError, match="the groups of class 'a' are too few or too large to carve the test split"):
        prepare(DataSpec(name=f"imagefolder:{tmp_path / 'photos'}", groups=file))
