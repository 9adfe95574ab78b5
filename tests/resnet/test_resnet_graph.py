"""Every combination of choices is a network or refused; shapes are checked; networks are captured as graphs."""

import re
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import partial
from itertools import product
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from resnet import Downsample, Family, NetSpec, Shortcut, StrideOn, Unit, Version, article, build
from resnet.net import GlobalAveragePooling
from resnet.residual import Plain, Residual
from resnet.shortcut import Scale
from tests.support.networks import STEP

DEPTHS = (5, 6, 8, 11, 14, 18, 20, 29, 34, 50, 101, 110, 152, 200)  # each is valid for some unit
CHOICES = {
    "family": Family,
    "unit": Unit,
    "version": Version,
    "shortcut": Shortcut,
    "downsample": Downsample,
    "stride_on": StrideOn,
    "depth": DEPTHS,
}
REFUSAL = re.compile(
    r"net (?P<field>\w+) '?(?P<value>\w+)'? (?:is not .+ for .*unit=\w+|does not exist in family=\w+); "
    r"(?:choose from|the (?:smallest|largest) valid depth is|the nearest valid depths are) "
    r"(?P<remedy>\w+)(?:(?:,| and) \w+)*"
)


def mend(fields: dict[str, Any], error: ValueError) -> None:
    """Follows the sentences, the first value that each names put into its field, until there is a network."""
    mended: set[str] = set()
    while True:
        said = REFUSAL.fullmatch(str(error))
        assert said, error
        assert said["value"] == str(fields[said["field"]]), error
        assert said["field"] not in mended, f"{error}: refused after its own remedy"
        mended.add(said["field"])
        fields = {**fields, said["field"]: said["remedy"]}
        try:
            NetSpec(**fields)
        except ValueError as following:
            error = following
        else:
            return


def test_every_combination_is_a_network_or_refused_with_a_remedy():
    """The counts by hand: 14 depths, of which 11, 7 and 6 are 3n+2, 6n+2 and 9n+2; 2 and 4 of 1512.03385, Table 1."""
    networks, refused = set(), 0
    for values in product(*CHOICES.values()):
        fields = dict(zip(CHOICES, values, strict=True))
        try:
            networks.add(NetSpec(**fields))
        except ValueError as error:
            mend(fields, error)
            refused += 1
    cifar, imagenet, of_article = (11 + 7 + 6) * 5 * 7 * 2 * 2, (2 + 4) * 5 * 7 * 2 * 2, 2 * 2
    assert refused == 3 * 3 * 5 * 7 * 2 * 2 * 14 - (cifar + imagenet + of_article)
    # 5 shortcuts that change dimension in 2 ways, 2 in none; where the stride is matters in bottlenecks alone
    assert len(networks) == 5 * (5 * 2 + 2) * ((11 + 7 + 2) + 2 * (6 + 4)) + 2


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda: Scale(2.0)(torch.zeros(3)), "n c i j"),
        (lambda: Residual(nn.Identity(), nn.Identity(), nn.Identity())(torch.zeros(3)), "n c i j"),
        (lambda: GlobalAveragePooling()(torch.zeros(2, 3, 4, 4, 5)), "n c i j"),
        (lambda: Plain(nn.Flatten(), nn.Identity())(torch.zeros(2, 3, 4, 4)), "n d k l"),
        (lambda: article.stem(SimpleNamespace(in_channels=3, channels=[4])), "NetSpec"),
    ],
)
def test_shapes_are_checked(call, shape):
    """Each of these calls works without the checks."""
    with pytest.raises(TypeCheckError, match=shape):
        call()


def graphs() -> list[NetSpec]:
    """35 for CIFAR with any two of unit, version and shortcut together (a Latin square), 1 for ImageNet, 2 articles."""
    small = {"width": 0.125, "num_classes": 5}
    return [
        NetSpec(depth=STEP[unit] + 2, unit=unit, version=version, shortcut=shortcut, **small)
        for (u, unit), (v, version), (s, shortcut) in product(*map(enumerate, (Unit, Version, Shortcut)))
        if (u + v + s) % 3 == 0
    ] + [
        NetSpec(family="imagenet", depth=18, version="v2", **small),
        *(NetSpec(family="article", version=version, image_size=8, **small) for version in ("v1", "v2")),
    ]


def train(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits of a forward and backward pass; dropout draws the same each time."""
    torch.manual_seed(1)
    logits = net(images)
    nn.functional.cross_entropy(logits, torch.arange(len(images))).backward()
    return logits


def state(net: nn.Module) -> dict[str, torch.Tensor | None]:
    """What a training step changes: gradients and running statistics."""
    return {name: p.grad for name, p in net.named_parameters()} | dict(net.named_buffers())


def check_graph(spec: NetSpec) -> None:
    """One graph without a break, and one exported program for any batch, that do what the network does."""
    torch.manual_seed(0)
    eager = build(spec).double()
    net = deepcopy(eager)
    side = max(8, spec.min_image_size)
    images, more = (torch.randn(n, spec.in_channels, side, side, dtype=torch.float64) for n in (2, 5))
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-11)
    close(train(torch.compile(net, fullgraph=True, backend="eager"), images), train(eager, images))
    close(state(net), state(eager))
    program = torch.export.export(net.eval(), (images,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    with torch.no_grad():
        close(program.module()(more), eager.eval()(more))


@pytest.mark.slow
def test_choices_make_one_graph():
    """Every fifth of 38, in a process apart: torch.compile cannot look through the checks of shapes."""
    assert len(graphs()) == 5 * 7 + 1 + 2
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(check_graph, graphs()[::5])) == [None] * 8
