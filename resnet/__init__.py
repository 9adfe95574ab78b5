"""Residual networks: describe one with NetSpec, build it, count what it costs."""

from resnet.cost import Cost, cost
from resnet.kinds import Downsample, Family, Shortcut, StrideOn, Unit, Version
from resnet.names import create_model, list_models, name_of, named
from resnet.net import ResNet, build
from resnet.spec import NetSpec

__all__ = [
    "Cost",
    "Downsample",
    "Family",
    "NetSpec",
    "ResNet",
    "Shortcut",
    "StrideOn",
    "Unit",
    "Version",
    "build",
    "cost",
    "create_model",
    "list_models",
    "name_of",
    "named",
]
