"""The networks that the papers and the article name."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from resnet.kinds import Family, Shortcut, Unit, Version
from resnet.spec import NetSpec, hint

_BASIC = (20, 32, 44, 56, 110)  # 1512.03385, Table 6
_BOTTLENECK = (164, 1001)  # 1603.05027, Table 3
_IMAGENET = (18, 34, 50, 101, 152)  # 1512.03385, Table 1


def _named() -> Iterator[tuple[str, NetSpec]]:
    originals = {f"resnet{depth}": NetSpec(depth=depth) for depth in _BASIC}
    originals |= {f"resnet{depth}": NetSpec(depth=depth, unit=Unit.BOTTLENECK) for depth in _BOTTLENECK}
    originals |= {f"resnet{depth}": NetSpec(depth=depth, family=Family.IMAGENET) for depth in _IMAGENET}
    yield from originals.items()
    yield "resnet1202", NetSpec(depth=1202)  # 1603.05027 goes to 1001 layers by bottlenecks instead
    for name, net in originals.items():
        yield f"preact_{name}", net.model_copy(update={"version": Version.V2})
    # 1603.05027, Table 5
    yield "preact_resnet200", NetSpec(depth=200, family=Family.IMAGENET, version=Version.V2)
    for depth in _BASIC:
        yield f"plain{depth}", NetSpec(depth=depth, shortcut=Shortcut.NONE)
    for version in (Version.V1, Version.V2):
        yield f"article_resnet_{version}", NetSpec(family=Family.ARTICLE, version=version)


_NETS = dict(_named())
_NAMES = {spec: name for name, spec in _NETS.items()}
OF_DATA = ("in_channels", "num_classes", "image_size")  # follow from the images, not from the network's design


def list_models(pattern: str = "*") -> list[str]:
    """Names of the published networks that match a shell pattern, e.g. `preact_*`."""
    return [name for name in _NETS if fnmatchcase(name, pattern)]


def named(name: str, **overrides: Any) -> NetSpec:
    """The specification of a published network, with fields of NetSpec replaced.

    Raises ValueError for an unknown name or an invalid field.
    """
    if name not in _NETS:
        raise ValueError(f"network {name!r} is unknown; {hint(name, list(_NETS))}")
    return _NETS[name].model_copy(update=overrides)


def name_of(spec: NetSpec) -> str | None:
    """The published name of a network, whatever its images and classes; None when it has none."""
    design = spec.model_dump(exclude=set(OF_DATA))
    return _NAMES.get(NetSpec.model_validate(design))
