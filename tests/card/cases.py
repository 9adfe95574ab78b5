"""What is trained on the stand-in for a GPU: augmentations, networks, and which go together."""

import itertools
from typing import Any

from resnet import Shortcut, Version

IMAGES, STEPS = 1024, 8  # of an epoch

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "neither crop nor flip": {"crop_padding": 0, "flip": False},
    "resized": {"crop": "resized"},
    "resized, not mirrored": {"crop": "resized", "flip": False},
    "smaller": {"image_size": 24},
    "trivial_augment": {"trivial_augment": True},
    "cutout": {"cutout": 8},
    "random_erasing": {"random_erasing": 0.5},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.4, "cutmix": 1.0},
    "bce": {"loss": "bce", "label_smoothing": 0.1},
    "bce of mixed images": {"loss": "bce", "mixup": 0.4, "cutmix": 1.0, "class_weights": "balanced"},
    "class_weights": {"class_weights": "balanced"},
    "class_weights, smoothed": {"class_weights": "balanced", "label_smoothing": 0.1},
    "stochastic_depth": {"stochastic_depth": 0.5},
}
OPTIMISERS: dict[str, dict[str, Any]] = {
    "ema": {"ema": 0.99},
    "no momentum": {"momentum": 0.0},
    "adamw": {"optimizer": "adamw"},
    "layer_decay": {"layer_decay": 0.5},
}
UNITS: dict[str, dict[str, Any]] = {
    f"{version}, {shortcut}": {"version": version, "shortcut": shortcut}
    for version, shortcut in itertools.product([v.value for v in Version], [s.value for s in Shortcut])
}
IMAGENET = {"family": "imagenet", "depth": 18, "num_classes": 10}
ARTICLE = {"family": "article", "depth": 6}  # which leaves no choice of shortcut
FAMILIES: dict[str, dict[str, Any]] = {
    "projection": {"downsample": "projection"},
    "bottleneck": {"depth": 11, "unit": "bottleneck"},
    "single": {"depth": 5, "unit": "single"},
    "article": ARTICLE,
    "article v2": ARTICLE | {"version": "v2"},
    **{f"imagenet {name}": IMAGENET | unit for name, unit in UNITS.items()},
}

Case = tuple[dict[str, Any], dict[str, Any], bool]  # of the network, of its training, and whether images are streamed


def _cases() -> dict[str, Case]:
    """Every augmentation with every version, shortcut and family; every version and shortcut with every family."""
    augmented = UNITS | {"article": ARTICLE, "imagenet": IMAGENET}
    return {
        **{
            f"{net_name}; {name}": (net, fields, False)
            for (net_name, net), (name, fields) in itertools.product(augmented.items(), AUGMENTATIONS.items())
            if not (net.get("shortcut") == "none" and "stochastic_depth" in fields)  # which is refused
            if not (net is ARTICLE and "image_size" in fields)  # its head is for images of one size
        },
        **{name: (net, {}, False) for name, net in FAMILIES.items()},
        **{f"{name}, streamed": ({}, fields, True) for name, fields in AUGMENTATIONS.items()},
        **{name: ({}, fields, False) for name, fields in OPTIMISERS.items()},
    }


CASES = _cases()
