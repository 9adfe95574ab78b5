"""Residual networks: describe one with NetSpec, build it, count what it costs."""

from resnet.classifier import Classifier, load
from resnet.cost import Cost, cost
from resnet.keras_weights import load_keras
from resnet.kinds import Downsample, Family, Shortcut, StrideOn, Unit, Version
from resnet.names import create_model, list_models, name_of, named
from resnet.net import ResNet, build
from resnet.route import reaches_first_unit, shortcut_gain
from resnet.signal import Signal, signal
from resnet.spec import NetSpec
from resnet.torchvision_weights import load_torchvision, to_torchvision

__all__ = [
    "Classifier",
    "Cost",
    "Downsample",
    "Family",
    "NetSpec",
    "ResNet",
    "Shortcut",
    "Signal",
    "StrideOn",
    "Unit",
    "Version",
    "build",
    "cost",
    "create_model",
    "list_models",
    "load",
    "load_keras",
    "load_torchvision",
    "name_of",
    "named",
    "reaches_first_unit",
    "shortcut_gain",
    "signal",
    "to_torchvision",
]
