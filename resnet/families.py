"""The networks that the papers name."""

from fnmatch import fnmatchcase
from typing import Any

from resnet.net import ResNet, build
from resnet.spec import NetSpec, Shortcut, Unit, Version, hint

_BASIC = (20, 32, 44, 56, 110)  # 1512.03385, Table 6
_BOTTLENECK = (164, 1001)  # 1603.05027, Table 3


def _named() -> dict[str, NetSpec]:
    nets = {f"resnet{d}": NetSpec(depth=d) for d in (*_BASIC, 1202)}
    nets |= {f"resnet{d}": NetSpec(depth=d, unit=Unit.BOTTLENECK) for d in _BOTTLENECK}
    nets |= {f"preact_{name}": net.model_copy(update={"version": Version.V2}) for name, net in nets.items()}
    del nets["preact_resnet1202"]  # 1603.05027 goes to 1001 layers by bottlenecks instead
    return nets | {f"plain{d}": NetSpec(depth=d, shortcut=Shortcut.NONE) for d in _BASIC}


_NETS = _named()
_NAMES = {spec: name for name, spec in _NETS.items()}


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


def create_model(name: str, **overrides: Any) -> ResNet:
    """The published network, e.g. `create_model("resnet56", num_classes=100)`; errors as `named`."""
    return build(named(name, **overrides))


def name_of(spec: NetSpec) -> str | None:
    """The published name of a network, whatever its image channels and classes; None when it has none."""
    published = NetSpec.model_fields
    same = {field: published[field].default for field in ("in_channels", "num_classes")}
    return _NAMES.get(spec.model_copy(update=same))
