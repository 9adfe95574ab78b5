"""What chance decides about an epoch, crops included, and the batches that follow, on the device."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from search.spec import Crop, TrainSpec
from search.training.batches import Resident, resized, resized_crop
from search.training.trivial_augment import draw_operations, trivial_augment

TRIES = 10


@dataclass(frozen=True)
class Rectangles:
    """How boxes in an image are drawn: area and logarithm of the ratio uniform, again where one does not fit."""

    area: tuple[float, float]  # as a fraction of the image's
    ratio: tuple[float, float]  # of width to height
    least: int = 1  # pixels a side
    spare: int = 0  # pixels that a side leaves at least

    def draw(
        self, count: int, sides: tuple[int, int], generator: torch.Generator
    ) -> tuple[Int64[Tensor, "2 n"], Int64[Tensor, "2 n"], Bool[Tensor, " n"]]:
        """Corners (top, left), extents (height, width), and whether one of at most `TRIES` boxes fits in `sides`."""
        whole = torch.tensor(sides)[:, None]
        extents = torch.zeros(2, count, dtype=torch.int64)
        placed = torch.zeros(count, dtype=torch.bool)
        for _ in range(TRIES):
            left = torch.nonzero(~placed)[:, 0]
            areas = _uniform(self.area, len(left), generator) * math.prod(sides)
            ratios = _uniform((math.log(self.ratio[0]), math.log(self.ratio[1])), len(left), generator).exp()
            tried = torch.stack([(areas / ratios).sqrt(), (areas * ratios).sqrt()]).round().long()
            fits = ((tried >= self.least) & (tried <= whole - self.spare)).all(0)
            extents[:, left[fits]] = tried[:, fits]
            placed[left[fits]] = True
        # The remainder of 62 random bits is uniform but for one part in 2^50.
        corners = torch.randint(2**62, (2, count), generator=generator) % (whole - extents + 1)
        return corners, extents, placed


CROPPED = Rectangles(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3))  # arXiv:1409.4842, section 6
ERASED = Rectangles(area=(0.02, 0.33), ratio=(1 / 3.3, 1 / 0.3), least=0, spare=1)  # torchvision's RandomErasing


def draw_boxes(shape: tuple[int, int], sides: tuple[int, int], generator: torch.Generator) -> Int64[Tensor, "s 4 b"]:
    """Crops for an epoch of `shape` (steps, images a step): top, left, height and width in pixels, inside the image.

    The distribution is that of torchvision's RandomResizedCrop: where no box fits in `sides` (height, width), the
    largest about the centre that has an allowed ratio.
    """
    corners, extents, placed = CROPPED.draw(math.prod(shape), sides, generator)
    largest = torch.tensor(_largest(*sides))[:, None]
    centred = (torch.tensor(sides)[:, None] - largest) // 2
    return _by_step([torch.where(placed, corners, centred), torch.where(placed, extents, largest)], shape)


def draw_erased(
    probability: float, shape: tuple[int, int], sides: tuple[int, int], generator: torch.Generator
) -> Int64[Tensor, "s 4 b"]:
    """What is erased of each image with this probability, else an empty box; as `draw_boxes`.

    The distribution is that of torchvision's RandomErasing, which follows arXiv:1708.04896, algorithm 1: where no box
    fits, nothing is erased.
    """
    corners, extents, placed = ERASED.draw(math.prod(shape), sides, generator)
    erased = placed & (torch.rand(math.prod(shape), generator=generator) < probability)
    return _by_step([corners, torch.where(erased, extents, 0)], shape)


def _by_step(parts: list[Int64[Tensor, "2 n"]], shape: tuple[int, int]) -> Int64[Tensor, "s 4 b"]:
    return torch.cat(parts).view(4, *shape).transpose(0, 1).contiguous()


def _largest(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest box of an allowed ratio."""
    narrowest, widest = CROPPED.ratio
    if width < narrowest * height:
        return round(width / narrowest), width
    if width > widest * height:
        return height, round(height * widest)
    return height, width


def _uniform(bounds: tuple[float, float], count: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    lowest, highest = bounds
    return torch.rand(count, dtype=torch.float64, generator=generator) * (highest - lowest) + lowest


Draws = dict[str, Tensor]  # name -> (steps, ...): row k is all that step k depends on


@dataclass(frozen=True)
class Batch:
    """One training batch: normalised images and the numbers of their classes.

    With mixup or cutmix, `mixed` are other classes and a share: each image has its label by it, its other by the rest.
    """

    images: Float[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"]
    mixed: tuple[Int64[Tensor, " b"], Float[Tensor, ""]] | None = None

    def measured(self, measure: Callable[[Int64[Tensor, " b"]], Tensor]) -> Tensor:
        """`measure` of the labels; of a mixed batch of both, each by its share."""
        if self.mixed is None:
            return measure(self.labels)
        others, share = self.mixed
        return share * measure(self.labels) + (1 - share) * measure(others)


def shape(n: int, batch_size: int) -> tuple[int, int]:
    """Steps of an epoch and images a step. The last incomplete batch is left out; a split below a batch is one."""
    size = min(batch_size, n)
    return n // size, size


def draw(spec: TrainSpec, n: int, sides: tuple[int, int], seed: int) -> Draws:
    """Everything random about one epoch, from `seed` alone, on the CPU.

    Same distributions as torchvision's RandomCrop(side, padding) or RandomResizedCrop(side), and RandomHorizontalFlip,
    in the order of a DataLoader that shuffles. The centres of cutout are uniform over the image (arXiv:1708.04552,
    section 3.1); mixing is as `draw_mixing` says.

    Args:
        spec: which augmentations there are.
        n: images of the split.
        sides: height and width of an image of the split in pixels.
        seed: of this epoch.
    """
    seen = spec.sides(sides)
    generator = torch.Generator().manual_seed(seed)
    steps, size = shape(n, spec.batch_size)
    draws = {"order": torch.randperm(n, generator=generator)[: steps * size].view(steps, size)}
    if spec.crop is Crop.RESIZED:
        draws["boxes"] = draw_boxes((steps, size), sides, generator)
    elif spec.crop_padding:
        draws["offsets"] = torch.randint(0, 2 * spec.crop_padding + 1, (steps, 2, size), generator=generator)
    if spec.flip:
        draws["mirrored"] = torch.rand(steps, size, generator=generator) < 0.5
    if spec.cutout:
        centres = [torch.randint(0, side, (steps, 1, size), generator=generator) for side in seen]
        draws["centres"] = torch.cat(centres, dim=1)
    if spec.mixup or spec.cutmix:
        draws |= draw_mixing(spec, steps, seen, seed)
    if spec.trivial_augment:
        draws |= draw_operations((steps, size), seen, generator)
    if spec.random_erasing:
        draws["erased"] = draw_erased(spec.random_erasing, (steps, size), seen, generator)
    return draws


def draw_mixing(spec: TrainSpec, steps: int, sides: tuple[int, int], seed: int) -> Draws:
    """How each batch is mixed with itself, rolled by one: by mixup, by cutmix, or by either with probability 1/2.

    `share` of its own label and, with cutmix, the box that is `pasted` and the share of its own pixels that is `kept`
    around it: by mixup (arXiv:1710.09412, section 2) no box, and both shares Beta(alpha, alpha); by cutmix
    (arXiv:1905.04899, section 3.1) all pixels around a box of uniform centre, whose area before it is cut at the border
    of the image is 1 - Beta(alpha, alpha), and the share what is left of the image.
    """
    random = np.random.Generator(np.random.Philox(seed))
    blended = random.beta(spec.mixup, spec.mixup, steps) if spec.mixup else np.zeros(steps)
    if not spec.cutmix:
        return {"share": torch.from_numpy(blended).float()}
    pasting = random.random(steps) < (0.5 if spec.mixup else 1)
    size = np.array(sides)
    half = (0.5 * np.sqrt(1 - random.beta(spec.cutmix, spec.cutmix, (steps, 1))) * size).astype(int)
    centres = random.integers(size, size=(steps, 2))
    first, last = np.maximum(centres - half, 0), np.minimum(centres + half, size)
    extents = np.where(pasting[:, None], last - first, 0)
    found = {
        "share": np.where(pasting, 1 - extents.prod(1) / size.prod(), blended).astype(np.float32),
        "kept": np.where(pasting, 1, blended).astype(np.float32),
        "pasted": np.concatenate([first, extents], 1),
    }
    return {name: torch.from_numpy(values) for name, values in found.items()}


def batch(split: Resident, spec: TrainSpec, row: Mapping[str, Tensor], streamed: Tensor | None = None) -> Batch:
    """The batch of one row of `draw`, all on the device; `streamed`: its images, where the split is streamed.

    Nothing waits for the host.
    """
    pixels = split.images.index_select(0, row["order"]) if streamed is None else streamed
    mirrored, seen = row.get("mirrored"), spec.sides((pixels.shape[1], pixels.shape[2]))
    if spec.crop is Crop.RESIZED:
        images = resized_crop(pixels, row["boxes"], mirrored, seen)
    else:
        images = crop_and_flip(resized(pixels, seen), spec.crop_padding, row.get("offsets"), mirrored)
    if spec.trivial_augment:
        images = trivial_augment(images, row["operation"], row["strength"], row["place"])
    normalised, labels = split.normalise(images), split.labels[row["order"]]
    if spec.cutout:
        cut_out_(normalised, spec.cutout, row["centres"])
    if spec.random_erasing:
        hide_(normalised, row["erased"])
    if not (spec.mixup or spec.cutmix):
        return Batch(normalised, labels)
    kept = row["share"]
    if spec.cutmix:
        kept = torch.where(inside(row["pasted"][:, None], normalised), 0.0, row["kept"])
    mixed = kept * normalised + (1 - kept) * normalised.roll(1, 0)
    return Batch(mixed, labels, (labels.roll(1, 0), row["share"]))


def crop_and_flip(
    images: UInt8[Tensor, "b h w c"],
    padding: int,
    offsets: Int64[Tensor, "2 b"] | None,
    mirrored: Bool[Tensor, " b"] | None,
) -> UInt8[Tensor, "b h w c"]:
    """Image `i` shifted by `offsets[:, i] - padding` over black, mirrored where `mirrored[i]`: one gather for all.

    `offsets` are of rows and columns, in pixels, from 0 to 2 padding.
    """
    if offsets is None and mirrored is None:
        return images
    number, height, width, channels = images.shape
    which = torch.arange(number, device=images.device)
    padded = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding)) if padding else images
    top, left = (torch.zeros_like(which),) * 2 if offsets is None else offsets
    if mirrored is not None:  # a part of the image's mirror image, which lies as far behind it as there are images
        padded = torch.cat([padded, padded.flip(2)])
        which = which + number * mirrored
        left = torch.where(mirrored, 2 * padding - left, left)
    # Lines of the result are pieces of the bytes in memory: every byte begins one, and a few are copied.
    lines = which[:, None] * padded.shape[1] + top[:, None] + torch.arange(height, device=images.device)
    starts = (lines * padded.shape[2] + left[:, None]) * channels
    pieces = padded.reshape(-1).unfold(0, width * channels, 1)
    return pieces.index_select(0, starts.view(-1)).view(images.shape)


def cut_out_(images: Float[Tensor, "b c h w"], side: int, centres: Int64[Tensor, "2 b"]) -> None:
    """Hides a square of `side` pixels about each centre."""
    hide_(images, torch.cat([centres - side // 2, torch.full_like(centres, side)]))


def hide_(images: Float[Tensor, "b c h w"], boxes: Int64[Tensor, "4 b"]) -> None:
    """Sets each image's box to 0, the mean of the training split; cut at the border."""
    images.masked_fill_(inside(boxes, images)[:, None], 0.0)


def inside(boxes: Int64[Tensor, "4 b"], images: Float[Tensor, "n c h w"]) -> Bool[Tensor, "b h w"]:
    """Which pixels of images of this size are in each box of top, left, height and width."""
    top, left, height, width = boxes[:, :, None]
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
    high = (rows >= top) & (rows < top + height)
    wide = (columns >= left) & (columns < left + width)
    return high[:, :, None] & wide[:, None, :]
