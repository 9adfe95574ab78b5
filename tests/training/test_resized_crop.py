"""Random resized crops against torchvision's, on real photographs."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from sklearn.datasets import load_sample_images
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as vision

from search.training.augment import draw_boxes
from search.training.batches import resized, resized_crop

SIZES = [(32, 32), (64, 48), (12, 60), (60, 12)]  # of images: height, width


def photographs() -> torch.Tensor:
    """uint8 (2, 150, 180, 3): two pieces of photographs, with edges and fine texture."""
    return torch.from_numpy(np.stack([image[150:300, 200:380] for image in load_sample_images().images]))


def torchvisions(image: torch.Tensor, box: list[int], sides: tuple[int, int], flip: bool) -> torch.Tensor:
    top, left, height, width = box
    resized = vision.resized_crop(image.permute(2, 0, 1), top, left, height, width, list(sides), antialias=True)
    return (vision.horizontal_flip(resized) if flip else resized).permute(1, 2, 0)


@pytest.mark.parametrize("sides", [(32, 32), (64, 48), (224, 224)], ids=str)
def test_pixels_are_torchvisions(sides: tuple[int, int]) -> None:
    """Boxes shrunk and enlarged, at the corners, of one pixel and of the whole image; mirrored and not."""
    drawn = draw_boxes((1, 12), (150, 180), torch.Generator().manual_seed(1))[0]
    corners = [[0, 0, 150, 180], [149, 179, 1, 1], [0, 160, 100, 20], [140, 0, 10, 180], [3, 5, *sides]]
    boxes = torch.cat([drawn, torch.tensor(corners[: 5 if sides[0] < 150 else 4]).T], dim=1)
    images = photographs()[torch.arange(boxes.shape[1]) % 2]
    mirrored = torch.arange(boxes.shape[1]) % 3 == 0
    found = resized_crop(images, boxes, mirrored, sides)
    assert found.dtype == torch.uint8
    assert found.shape == (boxes.shape[1], *sides, 3)
    for image, box, flip, mine in zip(images, boxes.T.tolist(), mirrored.tolist(), found, strict=True):
        apart = (mine.int() - torchvisions(image, box, sides, flip).int()).abs()
        assert apart.max() <= 1, box  # torchvision rounds twice, we once
        assert apart.float().mean() < 0.25, box


@pytest.mark.parametrize("side", [1, 37, 100, 150])
def test_whole_images_are_resized_as_torchvision_does(side: int) -> None:
    images = photographs()[:, :, :150]
    expected = vision.resize(images.permute(0, 3, 1, 2), [side, side], antialias=True).permute(0, 2, 3, 1)
    apart = (resized(images, (side, side)).int() - expected.int()).abs()
    assert apart.max() <= 1
    assert apart.float().mean() < 0.25


def test_a_box_of_the_right_size_is_cut_out_as_it_is() -> None:
    images = photographs()
    boxes = torch.tensor([[7, 0], [9, 116], [64, 64], [64, 64]])
    found = resized_crop(images, boxes, torch.tensor([False, True]), (64, 64))
    assert torch.equal(found[0], images[0, 7:71, 9:73])
    assert torch.equal(found[1], images[1, :64, 116:180].flip(1))
    assert torch.equal(resized_crop(images, boxes, None, (64, 64))[1], images[1, :64, 116:180])


@pytest.mark.parametrize("sides", SIZES, ids=str)
def test_boxes_are_distributed_as_torchvisions(sides: tuple[int, int]) -> None:
    """Kolmogorov-Smirnov for top, left, height and width; 12 x 60 and 60 x 12 seldom fit, and take the centre.

    At these levels one right implementation in 1000 would fail, over the four sizes together. With 4000 boxes each, a
    shift of any distribution function by 0.06 is found with a probability above 0.9.
    """
    n = 4000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(1, *sides)
        usual = RandomResizedCrop(1)
        boxes = [RandomResizedCrop.get_params(image, list(usual.scale), list(usual.ratio)) for _ in range(n)]
    theirs = np.array(boxes).T
    ours = draw_boxes((40, 100), sides, torch.Generator().manual_seed(5)).transpose(0, 1).flatten(1).numpy()
    for name, mine, their in zip(("top", "left", "height", "width"), ours, theirs, strict=True):
        assert ks_2samp(mine, their).pvalue > 1e-3 / (4 * len(SIZES)), name


def test_where_a_box_lies_in_its_range_is_uniform() -> None:
    """Over the boxes whose extent leaves 8 places."""
    boxes = draw_boxes((100, 1000), (32, 32), torch.Generator().manual_seed(2)).transpose(0, 1).flatten(1)
    for start, extent in ((0, 2), (1, 3)):  # top of height, left of width
        places = torch.bincount(boxes[start][boxes[extent] == 25])
        assert len(places) == 8
        assert chisquare(places).pvalue > 0.001


def test_boxes_lie_inside_and_follow_from_the_seed() -> None:
    boxes = draw_boxes((7, 300), (20, 31), torch.Generator().manual_seed(3))
    assert boxes.shape == (7, 4, 300)
    assert boxes.dtype == torch.int64
    top, left, height, width = boxes.transpose(0, 1)
    assert min(top.min(), left.min()) == 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() == 20
    assert (left + width).max() == 31
    assert torch.equal(boxes, draw_boxes((7, 300), (20, 31), torch.Generator().manual_seed(3)))
    assert not torch.equal(boxes, draw_boxes((7, 300), (20, 31), torch.Generator().manual_seed(4)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_captured_in_a_graph_it_gives_the_pixels_of_the_cpu() -> None:
    device = torch.device("cuda")
    images = photographs()
    boxes = draw_boxes((2, 2), (150, 180), torch.Generator().manual_seed(1))
    mirrored = torch.tensor([True, False])
    given = [images.to(device), boxes[0].to(device), mirrored.to(device)]
    resized_crop(*given, (64, 64))  # cuBLAS takes its workspace before the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = resized_crop(*given, (64, 64))
    given[1].copy_(boxes[1])
    graph.replay()
    assert (found.cpu().int() - resized_crop(images, boxes[1], mirrored, (64, 64)).int()).abs().max() <= 1
