"""Augmentation against torchvision's own transforms, the papers' definitions, and arithmetic by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp, kstest
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional as vision

from search.spec import TrainSpec
from search.training import Resident
from search.training.augment import Batch, batch, crop_and_flip, cut_out_, draw, draw_erased
from tests.support.sample_digits import pixels, resident

WHOLE = {"trivial_augment": True, "random_erasing": 0.5, "mixup": 0.5, "cutmix": 1.0}


def photograph() -> torch.Tensor:
    """A piece of a real photograph, uint8 (1, 20, 24, 3): neither square nor grey."""
    return torch.from_numpy(np.ascontiguousarray(load_sample_images().images[0][200:220, 300:324]))[None]


def digit() -> torch.Tensor:
    return torch.from_numpy(pixels()[0][5:6])


@pytest.mark.parametrize("image", [digit(), photograph()], ids=["digit", "photograph"])
@pytest.mark.parametrize("padding", [4, 1])
def test_every_outcome_is_torchvisions(image: torch.Tensor, padding: int) -> None:
    """All (2p + 1)^2 offsets and both directions: 162 outcomes for the padding of 4 of the papers."""
    places = range(2 * padding + 1)
    outcomes = [(top, left, flip) for top in places for left in places for flip in (False, True)]
    assert padding != 4 or len(outcomes) == 162
    offsets = torch.tensor([[top for top, _, _ in outcomes], [left for _, left, _ in outcomes]])
    mirrored = torch.tensor([flip for _, _, flip in outcomes])
    batch = crop_and_flip(image.expand(len(outcomes), -1, -1, -1), padding, offsets, mirrored)
    height, width = image.shape[1:3]
    padded = vision.pad(image.permute(0, 3, 1, 2), [padding] * 4)
    for mine, (top, left, flip) in zip(batch, outcomes, strict=True):
        expected = vision.crop(padded, top, left, height, width)
        expected = vision.horizontal_flip(expected) if flip else expected
        assert torch.equal(mine, expected[0].permute(1, 2, 0))


def test_no_padding_and_flip_alone() -> None:
    image = photograph()
    assert torch.equal(crop_and_flip(image, 0, None, None), image)
    assert torch.equal(crop_and_flip(image, 0, None, torch.tensor([False])), image)
    mirrored = crop_and_flip(image, 0, None, torch.tensor([True]))
    assert np.array_equal(mirrored.numpy(), image.numpy()[:, :, ::-1])


def numbered(n: int) -> Resident:
    """Images of one colour, number k in two bytes, labelled k."""
    images = torch.zeros(n, 6, 6, 2, dtype=torch.uint8)
    number = torch.arange(n)
    images[..., 0], images[..., 1] = (number // 256)[:, None, None], (number % 256)[:, None, None]
    return Resident(images, number, torch.zeros(2), torch.ones(2))


def spec(size: int, **fields: Any) -> TrainSpec:
    return TrainSpec(**({"batch_size": size, "crop_padding": 0, "flip": False} | fields))


def batches(split: Resident, given: TrainSpec, seed: int) -> list[Batch]:
    """One epoch."""
    draws = draw(given, len(split), (split.images.shape[1], split.images.shape[2]), seed)
    steps = len(draws["order"])
    assert all(len(rows) == steps for rows in draws.values())
    return [batch(split, given, {name: rows[k] for name, rows in draws.items()}) for k in range(steps)]


def epoch(split: Resident, size: int, seed: int, **fields: Any) -> list[torch.Tensor]:
    """Labels by batch; the images must be theirs."""
    made = batches(split, spec(size, **fields), seed)
    for one in made:
        centre = (one.images[:, :, 3, 3] * 255).round().long()
        assert torch.equal(centre[:, 0] * 256 + centre[:, 1], one.labels)
    return [one.labels for one in made]


def test_every_image_at_most_once_an_epoch() -> None:
    split = numbered(330)
    made = epoch(split, 32, seed=1, crop_padding=2, flip=True)
    assert [len(b) for b in made] == [32] * 10
    seen = torch.cat(made).tolist()
    assert len(set(seen)) == 320
    assert seen != sorted(seen)
    others = torch.cat(epoch(split, 32, seed=2)).tolist()
    assert seen != others
    assert set(range(330)) - set(seen) != set(range(330)) - set(others), "other images are left out"
    (labels,) = epoch(numbered(7), 128, seed=0)
    assert sorted(labels.tolist()) == list(range(7)), "a split smaller than a batch is one batch"


def test_offsets_and_directions_are_equally_likely() -> None:
    """One bright pixel in the middle of 9 x 9: where it goes tells offset and, off the middle column, direction."""
    n = 9000
    images = torch.zeros(n, 9, 9, 1, dtype=torch.uint8)
    images[:, 4, 2] = 255  # mirrored: column 6
    split = Resident(images, torch.zeros(n, dtype=torch.int64), torch.zeros(1), torch.ones(1))
    (made,) = batches(split, spec(n, crop_padding=1, flip=True), seed=3)
    places = made.images[:, 0].flatten(1).argmax(1)
    counts = {divmod(place, 9): n for place, n in enumerate(torch.bincount(places, minlength=81).tolist()) if n}
    assert set(counts) == {(row, column) for row in (3, 4, 5) for column in (1, 2, 3, 5, 6, 7)}
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_zeros_are_padded_before_normalising() -> None:
    split = Resident(
        torch.full((4, 4, 4, 1), 255, dtype=torch.uint8), torch.arange(4), torch.tensor([0.5]), torch.tensor([0.5])
    )
    given = spec(4, crop_padding=2)
    values = {
        round(v, 6) for seed in range(10) for one in batches(split, given, seed) for v in one.images.flatten().tolist()
    }
    assert values == {-1.0, 1.0}, "a padded pixel is black, not the mean"


@pytest.mark.parametrize(
    "fields", [{}, {"crop_padding": 4, "flip": True}, {"crop": "resized"}, {"cutout": 3}, {"mixup": 1.0}, WHOLE]
)
def test_channels_last_in_memory(fields: dict[str, Any]) -> None:
    images = photograph().repeat(5, 1, 1, 1)
    split = Resident(images, torch.zeros(5, dtype=torch.int64), torch.zeros(3), torch.ones(3))
    (made,) = batches(split, spec(5, **fields), seed=0)
    assert made.images.shape == (5, 3, 20, 24)
    assert made.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [1, 4, 5, 16])
def test_cutout_by_its_definition(side: int) -> None:
    """Pixel by pixel; with an even side the same pixels as the paper's own code, which goes from c - L/2 to c + L/2."""
    images = torch.rand(40, 3, 9, 11) + 1
    centres = torch.stack([torch.arange(40) % 9, torch.arange(40) % 11])
    made = images.clone()
    cut_out_(made, side, centres)
    for image, result, row, column in zip(images, made, *centres.tolist(), strict=True):
        expected = image.clone()
        top, left = row - side // 2, column - side // 2
        expected[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
        assert torch.equal(result, expected)


def test_mixup_is_torchvisions() -> None:
    split = resident(0, 64)
    given = spec(32, mixup=0.4)
    for mixed, plain in zip(batches(split, given, 5), batches(split, spec(32), 5), strict=True):
        assert mixed.mixed is not None
        others, share = mixed.mixed
        theirs = transforms.MixUp(num_classes=10)
        params = {"lam": share.item(), "labels": plain.labels, "batch_size": 32}
        torch.testing.assert_close(mixed.images, theirs.transform(plain.images, params))
        first, second = (torch.nn.functional.one_hot(labels, 10) for labels in (mixed.labels, others))
        wanted = theirs.transform(plain.labels, params)
        torch.testing.assert_close(share * first + (1 - share) * second, wanted, check_dtype=False)


def test_mixup_shares_are_beta_and_cutout_centres_uniform() -> None:
    shares = draw(spec(2, mixup=0.4), 8000, (2, 2), seed=7)["share"]
    assert shares.shape == (4000,)
    assert kstest(shares.numpy(), "beta", args=(0.4, 0.4)).pvalue > 0.001
    centres = draw(spec(6000, cutout=2), 6000, (5, 3), seed=1)["centres"][0]
    assert chisquare(torch.bincount(centres[0] * 3 + centres[1], minlength=15)).pvalue > 0.001


@pytest.mark.parametrize("fields", [{"cutmix": 1.0}, {"cutmix": 0.3, "mixup": 0.4}])
def test_cutmix_is_torchvisions(fields: dict[str, float]) -> None:
    """In a study with mixup too, each batch is as one of the two makes it."""
    images = photograph().repeat(40, 1, 1, 1) // torch.arange(1, 41, dtype=torch.uint8)[:, None, None, None]
    split = Resident(images, torch.arange(40) % 10, torch.full((3,), 0.4), torch.full((3,), 0.2))
    kinds = set[str]()
    for seed in range(12):
        draws = draw(spec(8, **fields), 40, (20, 24), seed)
        made = batches(split, spec(8, **fields), seed)
        for step, (mixed, plain) in enumerate(zip(made, batches(split, spec(8), seed), strict=True)):
            assert mixed.mixed is not None
            others, share = mixed.mixed
            top, left, height, width = draws["pasted"][step].tolist()
            pasted = bool(draws["kept"][step] == 1)
            kinds.add("cutmix" if pasted else "mixup")
            theirs = transforms.CutMix(num_classes=10) if pasted else transforms.MixUp(num_classes=10)
            lam = 1 - height * width / 480 if pasted else draws["kept"][step].item()
            params = {"labels": plain.labels, "batch_size": 8, "lam": lam, "lam_adjusted": lam}
            params["box"] = left, top, left + width, top + height
            torch.testing.assert_close(mixed.images, theirs.transform(plain.images, params))
            first, second = (torch.nn.functional.one_hot(labels, 10) for labels in (mixed.labels, others))
            wanted = theirs.transform(plain.labels, params)
            torch.testing.assert_close(share * first + (1 - share) * second, wanted, check_dtype=False)
    assert kinds == ({"cutmix", "mixup"} if "mixup" in fields else {"cutmix"})


@pytest.mark.parametrize("sides", [(32, 32), (7, 12)], ids=str)
def test_cutmix_boxes_are_distributed_as_torchvisions(sides: tuple[int, int]) -> None:
    n = 4000
    theirs = transforms.CutMix(num_classes=2, alpha=0.7)
    images = torch.empty(2, 3, *sides)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = [theirs.make_params([images]) for _ in range(n)]
    boxes = np.array([one["box"] for one in found])  # left, top, right, bottom
    expected = [boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]]
    draws = draw(spec(2, cutmix=0.7), 2 * n, sides, seed=8)
    for name, mine, their in zip(("top", "left", "height", "width"), draws["pasted"].T, expected, strict=True):
        assert ks_2samp(mine.numpy(), their).pvalue > 0.001, name
    assert ks_2samp(draws["share"].numpy(), np.float32([one["lam_adjusted"] for one in found])).pvalue > 0.001


def test_half_of_the_batches_are_cut_and_half_are_mixed() -> None:
    """One draw of 4000 batches; those that are mixed have the shares of mixup's own alpha."""
    draws = draw(spec(2, cutmix=1.0, mixup=0.4), 8000, (6, 9), seed=3)
    pasted = draws["kept"] == 1
    assert chisquare([int(pasted.sum()), int((~pasted).sum())]).pvalue > 0.001
    assert not draws["pasted"][~pasted, 2:].any()
    assert torch.equal(draws["share"][~pasted], draws["kept"][~pasted])
    assert kstest(draws["share"][~pasted].numpy(), "beta", args=(0.4, 0.4)).pvalue > 0.001


@pytest.mark.parametrize("sides", [(32, 32), (5, 4), (20, 60)], ids=str)
def test_erased_boxes_are_distributed_as_torchvisions(sides: tuple[int, int]) -> None:
    """5 x 4: a box may have no pixel, and where none of ten fits, nothing is erased."""
    n = 4000
    theirs = transforms.RandomErasing(p=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = [theirs.make_params([torch.empty(1, *sides)]) for _ in range(n)]
    expected = np.array([[one["i"], one["j"], one["h"], one["w"]] for one in found if one["v"] is not None]).T
    boxes = draw_erased(1.0, (40, 100), sides, torch.Generator().manual_seed(5)).transpose(0, 1).flatten(1).numpy()
    for name, mine, their in zip(("top", "left", "height", "width"), boxes, expected, strict=True):
        assert ks_2samp(mine, their).pvalue > 1e-3, name
    with_pixels = int((expected[2:].prod(0) > 0).sum())
    assert abs(int((boxes[2:].prod(0) > 0).sum()) - with_pixels) <= 4 * (with_pixels * (n - with_pixels) / n * 2) ** 0.5


@pytest.mark.parametrize("probability", [1.0, 0.25])
def test_erasing_is_torchvisions(probability: float) -> None:
    images = photograph().repeat(60, 1, 1, 1)
    split = Resident(images, torch.arange(60), torch.full((3,), 0.4), torch.full((3,), 0.2))
    given = spec(60, random_erasing=probability)
    (made,), (plain,) = batches(split, given, 2), batches(split, spec(60), 2)
    boxes = draw(given, 60, (20, 24), 2)["erased"][0]
    for image, before, box in zip(made.images, plain.images, boxes.T.tolist(), strict=True):
        assert torch.equal(image, vision.erase(before, *box, torch.zeros(3, 1, 1)))
    changed = (made.images != plain.images).flatten(1).any(1)
    assert changed.all() if probability == 1 else 5 <= int(changed.sum()) <= 25


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [2, 5])
def test_all_parts_on_small_batches_of_odd_images(channels: int, size: int) -> None:
    images = photograph()[:, :11, :7, :channels].repeat(10, 1, 1, 1).contiguous()
    split = Resident(images, torch.arange(10), torch.full((channels,), 0.4), torch.full((channels,), 0.2))
    for crop in ("padded", "resized"):
        for made in batches(split, spec(size, crop=crop, **WHOLE), seed=4):
            assert made.images.shape == (size, channels, 11, 7)
            assert made.images.is_contiguous(memory_format=torch.channels_last) or channels == 1
            assert made.images.isfinite().all()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"cutout": 2, "mixup": 1.0}, {"centres", "share"}),
        (WHOLE, {"operation", "strength", "place", "erased", "share", "kept", "pasted"}),
    ],
)
def test_an_epoch_follows_from_its_seed_alone(fields: dict[str, Any], names: set[str]) -> None:
    given = spec(8, crop_padding=2, flip=True, **fields)
    torch.manual_seed(1)
    first = draw(given, 64, (8, 8), seed=3)
    np.random.default_rng().random()
    torch.manual_seed(2)
    again, other = draw(given, 64, (8, 8), seed=3), draw(given, 64, (8, 8), seed=4)
    assert set(first) == {"order", "offsets", "mirrored"} | names
    for name, values in first.items():
        assert torch.equal(values, again[name])
        assert not torch.equal(values, other[name])


def test_what_is_not_asked_for_draws_nothing() -> None:
    """So that the numbers of a study without it stay what they were."""
    plain = draw(spec(8, crop_padding=2, flip=True, mixup=0.4), 64, (8, 8), seed=3)
    more = draw(spec(8, crop_padding=2, flip=True, mixup=0.4, random_erasing=0.5, trivial_augment=True), 64, (8, 8), 3)
    assert all(torch.equal(values, more[name]) for name, values in plain.items())
