"""Every valid combination of a network's choices: `python -m tests.support.every_network`.

Tries every combination of NetSpec's enums with many depths. Those that are refused must be refused in a sentence whose
remedy mends them. Each distinct network that is left trains one step and evaluates at three image sizes, each with
another number of channels, on all cores. With `--graphs all`, one network of each unit, version and shortcut goes
through torch.compile and torch.export instead (`--graphs pairs`: each two of these values together at least once).

A table on stderr, one line of JSON on stdout; the exit status is 1 when a network fails.
"""

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from resnet import Downsample, Family, NetSpec, ResNet, Shortcut, StrideOn, Unit, Version, build

Fields = dict[str, Any]  # of NetSpec
Failure = dict[str, Any]

CHOICES: Fields = {
    "family": Family,
    "unit": Unit,
    "version": Version,
    "shortcut": Shortcut,
    "downsample": Downsample,
    "stride_on": StrideOn,
    "depth": (5, 6, 8, 11, 14, 18, 20, 29, 34, 50, 101, 110, 152, 200),  # each is valid for some unit
}
WIDTH = 0.125  # 2, 4, 8 channels: what can go wrong does not depend on their number
CLASSES = 5
IMAGES = 2
REFUSAL = re.compile(
    r"net (?P<field>\w+) '?(?P<value>\w+)'? (?:is not .+ for .*unit=\w+|does not exist in family=\w+); "
    r"(?:choose from|the (?:smallest|largest) valid depth is|the nearest valid depths are) "
    r"(?P<remedy>\w+)(?:(?:,| and) \w+)*"
)


def combinations() -> Iterator[Fields]:
    """Every choice with every other."""
    return (dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values()))


def mend(fields: Fields, error: ValidationError) -> NetSpec:
    """The network that comes of following the sentences: the first value that each names is put into the field."""
    mended: set[str] = set()
    while True:
        (only,) = error.errors()
        said = REFUSAL.fullmatch(only["msg"].removeprefix("Value error, "))
        assert said, only["msg"]
        field = said["field"]
        assert said["value"] == str(fields[field]), only["msg"]
        assert field not in mended, f"{only['msg']}: refused after its own remedy"
        mended.add(field)
        fields = {**fields, field: said["remedy"]}
        try:
            return NetSpec(**fields)
        except ValidationError as next_error:
            error = next_error


def divide() -> tuple[list[NetSpec], Counter[str]]:
    """The distinct networks, and how many combinations were "tried" and "refused" by family and in all."""
    networks: dict[NetSpec, None] = {}
    counts: Counter[str] = Counter()
    for fields in combinations():
        counts["tried"] += 1
        try:
            networks[NetSpec(**fields, width=WIDTH, num_classes=CLASSES)] = None
        except ValidationError as error:
            mend(fields, error)
            counts["refused"] += 1
    return list(networks), counts


def steps(spec: NetSpec) -> Iterator[tuple[NetSpec, int, int]]:
    """The network for 1, 3 and 4 channels; images of the smallest size, not square, of 32 or more."""
    least = spec.min_image_size
    sizes = [(least, least), (least + 3, least + 1), (max(32, 2 * least),) * 2]
    for in_channels, (height, width) in zip((1, 3, 4), sizes, strict=True):
        image_size = max(height, width)
        yield (
            spec.model_copy(update={"in_channels": in_channels, "image_size": image_size}),
            *((image_size, image_size) if spec.family is Family.ARTICLE else (height, width)),
        )


def check_steps(spec: NetSpec) -> int:
    """Trains one step and evaluates, for each image size; how many there were."""
    done = 0
    for sized, height, width in steps(spec):
        sized.check_image(height, width)
        torch.manual_seed(0)
        net = build(sized)
        images = torch.randn(IMAGES, sized.in_channels, height, width)
        logits = net(images)
        nn.functional.cross_entropy(logits, torch.arange(IMAGES)).backward()
        for name, p in net.named_parameters():
            assert p.grad is not None, f"{name} has no gradient"
            assert p.grad.isfinite().all(), f"the gradient of {name} is not finite"
        with torch.no_grad():
            evaluated = net.eval()(images)
        for mode, output in (("training", logits), ("evaluation", evaluated)):
            assert output.shape == (IMAGES, CLASSES), f"{mode}: logits of shape {tuple(output.shape)}"
            assert output.isfinite().all(), f"{mode}: logits are not finite"
        done += 1
    return done


def graphs(which: str) -> list[NetSpec]:
    """The networks whose graphs are captured: for `all` 3 x 5 x 7 CIFAR nets, 2 x 5 ImageNet nets, 2 of the article."""
    every = which == "all"
    given: Fields = {"width": WIDTH, "num_classes": CLASSES}
    step = {Unit.BASIC: 6, Unit.BOTTLENECK: 9, Unit.SINGLE: 3}  # layers of one unit in each stage
    cifar = [
        NetSpec(depth=(2 if every else 1) * step[unit] + 2, unit=unit, version=version, shortcut=shortcut, **given)
        for (u, unit), (v, version), (s, shortcut) in product(*map(enumerate, (Unit, Version, Shortcut)))
        if every or (u + v + s) % 3 == 0  # a Latin square: any two of the three values decide the third
    ]
    imagenet = [
        NetSpec(family=Family.IMAGENET, depth=depth, version=version, **given)
        for depth, version in (product((18, 50), Version) if every else [(18, Version.V2)])
    ]
    article = [
        NetSpec(family=Family.ARTICLE, version=version, image_size=8, **given) for version in (Version.V1, Version.V2)
    ]
    return cifar + imagenet + article


def train(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits of a forward and backward pass; dropout draws the same each time."""
    torch.manual_seed(1)
    logits = net(images)
    nn.functional.cross_entropy(logits, torch.arange(len(images))).backward()
    return logits


def state(net: ResNet) -> dict[str, torch.Tensor | None]:
    """What a training step changes: gradients and running statistics."""
    return {name: p.grad for name, p in net.named_parameters()} | dict(net.named_buffers())


def check_graph(spec: NetSpec, backend: str) -> int:
    """One graph without a break, and one exported program for any batch, that do what the network does."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    eager = build(spec).double()
    net = deepcopy(eager)
    side = max(8, spec.min_image_size)
    images, more = (torch.randn(n, spec.in_channels, side, side, dtype=torch.float64) for n in (2, 5))
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-11)
    close(train(torch.compile(net, fullgraph=True, backend=backend), images), train(eager, images))
    close(state(net), state(eager))
    program = torch.export.export(net.eval(), (images,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    with torch.no_grad():
        close(program.module()(more), eager.eval()(more))
    return 1


def attempt(check: Callable[[NetSpec], int], spec: NetSpec) -> int | Failure:
    """How many checks passed, or what went wrong with which network: the others are still of interest."""
    torch.set_num_threads(1)
    try:
        return check(spec)
    except (AssertionError, RuntimeError, ValueError) as error:  # a check, torch (its compiler too), NetSpec
        return {"network": spec.model_dump(mode="json"), "error": f"{type(error).__name__}: {error}"}


def table(tried: list[NetSpec], results: list[int | Failure]) -> str:
    """Networks, passed checks and failed networks by family and unit."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for spec, result in zip(tried, results, strict=True):
        row = rows.setdefault((spec.family, spec.unit), Counter())
        row.update({"networks": 1} | ({"passed": result} if isinstance(result, int) else {"failed": 1}))
    columns = ("networks", "passed", "failed")
    lines = [("family", "unit", *columns), *((*key, *(row[c] for c in columns)) for key, row in rows.items())]
    return "\n".join(f"{a:10}{b:12}{c:>10}{d:>10}{e:>10}" for a, b, c, d, e in lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", choices=("all", "pairs"), help="capture graphs instead of training steps")
    parser.add_argument("--backend", default="eager", help="of torch.compile (default: eager, the capture alone)")
    parser.add_argument("--limit", type=int, help="at most so many networks, evenly spaced")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    counts: Counter[str] = Counter()
    if args.graphs:
        networks, check = graphs(args.graphs), partial(check_graph, backend=args.backend)
    else:
        (networks, counts), check = divide(), check_steps
    chosen = networks[:: -(-len(networks) // args.limit)] if args.limit else networks
    workers = min(len(os.sched_getaffinity(0)), len(chosen))
    # fork: torch is imported once, and this process has computed nothing that a child could find half done
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        results = list(pool.map(partial(attempt, check), chosen))
    failures = [result for result in results if not isinstance(result, int)]
    print(table(chosen, results), file=sys.stderr)
    passed = sum(result for result in results if isinstance(result, int))
    found = {"networks": len(networks), "checked": len(chosen), "passed": passed, "failures": failures}
    print(json.dumps({**counts, **found, "torch": torch.__version__}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
