"""Residual networks: describe one with NetSpec, build it, count what it costs."""
# pyright: reportUnusedImport=false

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet.classifier import Classifier, load
    from resnet.costs import Cost, cost
    from resnet.kinds import Downsample, Family, Shortcut, StrideOn, Unit, Version
    from resnet.names import list_models, name_of, named
    from resnet.net import ResNet, build, create_model, drop_branches
    from resnet.pretrained import blueprint, blueprints, load_pretrained, misfit
    from resnet.route import reaches_first_unit, shortcut_gain
    from resnet.signals import Signal, signal
    from resnet.spec import NetSpec
    from resnet.torchvision_weights import load_torchvision, to_torchvision

# No module is called as a name it offers: once imported, a package's attribute is its module.
_OFFERS = {
    "classifier": "Classifier load",
    "costs": "Cost cost",
    "kinds": "Downsample Family Shortcut StrideOn Unit Version",
    "names": "list_models name_of named",
    "net": "ResNet build create_model drop_branches",
    "pretrained": "blueprint blueprints load_pretrained misfit",
    "route": "reaches_first_unit shortcut_gain",
    "signals": "Signal signal",
    "spec": "NetSpec",
    "torchvision_weights": "load_torchvision to_torchvision",
}
_MODULES = {name: module for module, names in _OFFERS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Loads a name when it is first used: who only describes networks does not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
