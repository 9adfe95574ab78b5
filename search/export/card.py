"""The model card: README.md of an exported network."""

import json
from collections.abc import Sequence

from resnet import cost
from resnet.classifier import Exported
from search.export.trained import Exportable
from search.statistics import standard_error

NAMED = 20  # classes that are named

_LOADING = """\
## How to load it

The images are uint8, {shape}, values 0 to 255, channels last; scaling is part of the network.

```python
import numpy as np

images = np.load("examples.npy")  # {shown} images of the validation split; the network says: {answers}
```

**PyTorch**, with this project installed (`resnet` needs neither Ray nor MLflow):

```python
import resnet
from PIL import Image

model = resnet.load(".")  # the folder of this file
model.predict(images)  # names of classes; model(images): logits; model.probabilities(images)
model.predict(Image.open("{file}"))  # {sizes}
```"""

_ONNX = """\
**ONNX**, with `pip install onnxruntime` alone:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(None, {"images": images})
```

The class of an image is that of its largest logit, in the order of `classes` in `config.json`."""


def card(model: Exportable, config: Exported, answers: Sequence[str], apart: float | None, compared: int) -> str:
    """Markdown.

    Args:
        model: what is exported.
        config: its description.
        answers: what the network says of the images in the folder.
        apart: largest difference of ONNX Runtime's logits from the network's; None where there is no ONNX model.
        compared: images on which that was measured.
    """
    checked = f"On {compared} images of the validation split its logits are within {apart or 0:.1e} of the network's."
    parts = [
        _head(model),
        _error(model),
        _use(model),
        _loading(config, answers),
        *([] if apart is None else [_ONNX, checked]),
        _data(model),
        _network(model),
    ]
    return "\n\n".join(parts) + "\n"


def _head(model: Exportable) -> str:
    facts = model.facts
    lines = [
        "---\npipeline_tag: image-classification\ntags: [resnet, image-classification]\n---",
        f"# {facts.study}: a residual network for {model.data_name}",
        facts.description,
        f"The weights are those of {facts.training}, {facts.chosen}.",
    ]
    return "\n\n".join(filter(None, lines))


def _network(model: Exportable) -> str:
    price = cost(model.spec.net, model.data.info.shape[:2])
    rows = "\n".join(f"| `{path}` | {value} |" for path, value in model.spec.flat().items())
    return (
        f"## Network and recipe\n\n{price.params:,} parameters, {price.macs:,} multiply-accumulates an image; trained "
        f"for {model.facts.epochs} epochs.\n\n| field | value |\n|---|---|\n{rows}"
    )


def _data(model: Exportable) -> str:
    info, facts = model.data.info, model.facts
    more = len(info.classes) - NAMED
    names = ", ".join(info.classes[:NAMED]) + (f" and {more} more" if more > 0 else "")
    kind = "grey" if info.channels == 1 else f"{info.channels} channels"
    return (
        f"## Data\n\n{model.data_name}: {len(info.classes)} classes ({names}), {info.height} x {info.width} pixels, "
        f"{kind}. Trained on {facts.trained_on:,} images; the splits have {info.n_train:,} for training, "
        f"{info.n_validation:,} for validation and {info.n_test:,} for the test. Digest of the prepared data: "
        f"`{info.digest}`."
    )


def _error(model: Exportable) -> str:
    info, facts = model.data.info, model.facts
    told = ["## Error"]
    if facts.val_error is not None:
        margin = standard_error(facts.val_error, info.n_validation)
        told.append(
            f"Validation error {facts.val_error:.2f} %, standard error {margin:.2f} points, on n = "
            f"{info.n_validation:,} images. The network was chosen by this figure, which therefore is optimistic."
        )
    told.append(_test_error(model) if facts.tested else "The test split has not been read: there is no test error.")
    return "\n\n".join(told)


def _test_error(model: Exportable) -> str:
    images, facts = model.data.info.n_test, model.facts
    error, found, n = facts.test_error or 0.0, facts.interval(images), len(facts.tested)
    seeds = "; ".join(f"seed {seed}: {error:.2f} %" for seed, error in facts.tested.items())
    if n == 1:
        return (
            f"Test error {error:.2f} % of n = 1 training ({seeds}), on {images:,} images; one training has no interval."
        )
    within = f", {100 * found.level:g} % interval of the mean {found.low:.2f} to {found.high:.2f} %" if found else ""
    return (
        f"Test error {error:.2f} %, the mean of n = {n} trainings{within}, each tested on {images:,} images after its "
        f"last epoch ({seeds}). The interval is over trainings on these images; the images themselves have a "
        f"standard error of {standard_error(error, images):.2f} points."
    )


def _loading(config: Exported, answers: Sequence[str]) -> str:
    height, width, channels = config.image.shape
    fits = config.image.fit == "centre"
    return _LOADING.format(
        shape=f"(n, {height}, {width}, {channels})",
        shown=len(answers),
        answers=json.dumps(list(answers), ensure_ascii=False),
        file="photo.jpg" if fits else "image.png",
        sizes="of any size: it is resized as in training" if fits else f"of {width} x {height} pixels",
    )


def _use(model: Exportable) -> str:
    info, facts = model.data.info, model.facts
    fits = info.name.startswith("imagefolder:")
    sizes = (
        f"Pictures are resized by the shorter side to {info.height} pixels (bilinear) and cropped at the centre: "
        "`resnet.load` does so with PIL images, for ONNX it is yours to do."
        if fits
        else "`resnet.load` refuses images of another size or scale, or with other channels: it does not convert them."
    )
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    made = f"Exported with {versions}." if versions else ""
    return "\n\n".join(
        [
            "## Intended use and limits",
            f"It tells these {len(info.classes)} classes apart, on images like those that it was trained on. An image "
            "of none of them gets one of their names all the same, and its probabilities have not been calibrated.",
            sizes,
            "`examples.npy` holds images of the validation split: remove it before you pass the folder on to those who "
            f"are not to see them. {made}".rstrip(),
        ]
    )
