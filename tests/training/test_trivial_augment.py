"""TrivialAugment against torchvision's, operation by operation and strength by strength, on real photographs."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from search.training.trivial_augment import Operation, at_once, draw_operations, places, strengths, trivial_augment

THEIRS = v2.TrivialAugmentWide()
NAMES = list(THEIRS._AUGMENTATION_SPACE)


def photographs(sides: tuple[int, int], channels: int = 3) -> torch.Tensor:
    """uint8 (4, height, width, channels): two pieces of photographs, a dark one of few tones, and one even grey."""
    height, width = sides
    flower, temple = (image[100 : 100 + height, 200 : 200 + width] for image in load_sample_images().images)
    images = np.stack([flower, temple, flower // 8 + 30, np.full_like(flower, 77)])
    return torch.from_numpy(images[..., :channels].copy())


def amounts(operation: Operation, sides: tuple[int, int]) -> list[float]:
    """Every strength that torchvision draws for an operation, with both signs where it has them."""
    values, signed = THEIRS._AUGMENTATION_SPACE[NAMES[operation]]
    found = values(31, *sides)
    if found is None:
        return [0.0]
    return [float(sign * value) for value in found for sign in ((1, -1) if signed else (1,))]


def theirs(images: torch.Tensor, operation: Operation, amount: float) -> torch.Tensor:
    changed = THEIRS._apply_image_or_video_transform(
        images.permute(0, 3, 1, 2).clone(), NAMES[operation], amount, THEIRS.interpolation, THEIRS._fill
    )
    return changed.permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("sides", "channels", "number", "every"),
    [
        ((32, 32), 3, 4, 1),
        ((17, 5), 1, 4, 1),
        ((2, 2), 3, 4, 1),
        ((1, 7), 1, 4, 1),
        ((33, 47), 3, 1, 1),
        ((66, 130), 3, 1, 4),
        ((224, 224), 3, 1, 16),
    ],
    ids=str,
)
def test_every_operation_at_every_strength_is_torchvisions(
    sides: tuple[int, int], channels: int, number: int, every: int
) -> None:
    """623 cases, of up to four images each: 9 operations of 31 strengths and both signs, 2 of 31, 3 without.

    66 rows and 130 columns have pixels halfway between two others, where a shear of 0.264 or 0.792 has to round alike.
    In a blend torchvision itself rounds the last pixels of a line in another way than the others.
    """
    images = photographs(sides, channels)[:number]
    cases = [(kind, amount) for kind in Operation for amount in amounts(kind, sides)]
    assert len(cases) == 9 * 62 + 2 * 31 + 3
    cases = cases[::every]
    operation = torch.tensor([int(kind) for kind, _ in cases]).repeat_interleave(number)
    strength = torch.tensor([amount for _, amount in cases]).repeat_interleave(number)
    place = places(operation[None], strength[None], sides)[0]
    many = images.repeat(len(cases), 1, 1, 1)
    found = at_once(many, operation, strength, place)
    assert found.dtype == torch.uint8
    assert torch.equal(trivial_augment(many, operation, strength, place), found), "on a CPU each kind for itself"
    for (kind, amount), mine in zip(cases, found.view(-1, number, *images.shape[1:]), strict=True):
        expected = theirs(images, kind, amount)
        if kind in (Operation.COLOR, Operation.CONTRAST):
            apart = (mine.int() - expected.int()).abs()
            assert apart.max() <= 1, (kind.name, amount)
            assert apart[:3].float().mean() < 0.01, (kind.name, amount)  # the even image may be off everywhere
        else:
            assert torch.equal(mine, expected), (kind.name, amount)


def test_strengths_are_torchvisions() -> None:
    for kind in Operation:
        expected = THEIRS._AUGMENTATION_SPACE[NAMES[kind]][0](31, 32, 32)
        assert torch.equal(strengths()[kind], torch.zeros(31) if expected is None else expected.float())


def test_operations_strengths_and_signs_are_equally_likely() -> None:
    draws = draw_operations((400, 250), (32, 32), torch.Generator().manual_seed(3))
    operation, strength = draws["operation"].flatten(), draws["strength"].flatten()
    assert chisquare(torch.bincount(operation, minlength=14)).pvalue > 0.001
    for kind in (Operation.ROTATE, Operation.CONTRAST):
        own = strength[operation == kind]
        values, counts = own.abs().unique(return_counts=True)
        assert len(values) == 31
        assert chisquare(counts).pvalue > 0.001
        signs = own[own != 0] > 0
        assert chisquare([int(signs.sum()), int((~signs).sum())]).pvalue > 0.001
    assert torch.equal(strength[operation == Operation.SOLARIZE].unique(), torch.linspace(1, 0, 31).flip(0))
    assert (strength[operation == Operation.EQUALIZE] == 0).all()


def test_a_batch_none_of_which_is_changed() -> None:
    images = photographs((9, 4))
    still = torch.zeros(4, dtype=torch.int64), torch.zeros(4)
    place = places(*(one[None] for one in still), (9, 4))[0]
    assert torch.equal(trivial_augment(images, *still, place), images)
    assert torch.equal(at_once(images, *still, place), images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_as_on_a_cpu() -> None:
    """But for one level where a blend is rounded."""
    draws = draw_operations((1, 400), (66, 130), torch.Generator().manual_seed(3))
    row = [draws[name][0] for name in ("operation", "strength", "place")]
    images = photographs((66, 130)).repeat(100, 1, 1, 1)
    apart = trivial_augment(images.cuda(), *(one.cuda() for one in row)).cpu().int() - trivial_augment(images, *row)
    assert (apart != 0).float().mean() < 0.01
    moved = row[0] <= Operation.ROTATE
    assert (apart[moved] != 0).float().mean() < 1e-4
    assert apart[~moved].abs().max() <= 1
