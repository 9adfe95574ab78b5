"""A trained network with its preprocessing: images in, logits, probabilities or names of classes out."""
# torch's own annotations are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ValidationError, model_validator
from torch import Tensor, nn

from resnet.costs import cost
from resnet.images import ImageSpec, batch
from resnet.kinds import Family
from resnet.net import ResNet, build
from resnet.spec import NetSpec

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 1  # of the folder; a reader refuses what is newer than itself
AT_ONCE = 256  # images of a batch of `probabilities`


class Exported(BaseModel, frozen=True):
    """`config.json` of an exported network: all that its weights must be read with. Unknown keys are ignored."""

    format: Literal[1] = FORMAT
    net: NetSpec
    classes: tuple[str, ...]  # logit k is of the class named classes[k]
    image: ImageSpec
    mean: tuple[float, ...]  # per channel, of pixels scaled to 0..1
    std: tuple[float, ...]
    weights_sha256: str  # of model.safetensors
    about: dict[str, Any] = {}  # where it comes from: for people

    @model_validator(mode="after")
    def _fits(self) -> Self:
        image, net = self.image, self.net
        if len(self.classes) != net.num_classes:
            raise ValueError(f"has {len(self.classes)} names for {net.num_classes} classes")
        if not len(self.mean) == len(self.std) == image.channels == net.in_channels:
            raise ValueError(
                f"has {len(self.mean)} means and {len(self.std)} deviations for {net.in_channels} channels"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("has means or deviations that nothing can be scaled with")
        if image.fit == "centre" and (image.height != image.width or image.channels != 3):
            raise ValueError("fits pictures to what is no square in colour")
        net.check_image(image.height, image.width)
        return self


class Scaled(nn.Module):
    """A network behind the scaling of its images: bytes (n, h, w, c) in, logits (n, classes) out. This is exported."""

    shift: Tensor
    factor: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        mean_, std_ = torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
        self.net = net
        self.register_buffer("shift", -mean_ / std_, persistent=False)  # (x / 255 - mean) / std in one step
        self.register_buffer("factor", 1 / (255 * std_), persistent=False)

    def forward(self, images: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n k"]:
        return self.net(torch.addcmul(self.shift, images.float(), self.factor).permute(0, 3, 1, 2))


class Classifier(nn.Module):
    """A network that reads images as users have them; see `resnet.images.batch` for what is converted and refused.

    Called, it gives logits, (n, classes), one row an image, also for one image alone. Made in evaluation mode.
    """

    def __init__(self, net: ResNet, config: Exported) -> None:
        super().__init__()
        self.config = config
        self.scaled = Scaled(net, config.mean, config.std)
        self.eval()

    @property
    def net(self) -> nn.Module:
        """The network that `resnet.build` makes: scaled float images (n, C, H, W) -> logits."""
        return self.scaled.net

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the logits."""
        return self.config.classes

    def forward(self, images: Any) -> Float[Tensor, "n k"]:
        return self.scaled(batch(images, self.config.image, self.scaled.shift.device))

    @torch.inference_mode()
    def probabilities(self, images: Any) -> Float[Tensor, "n k"]:
        """Of each class, summing to 1 for each image; computed in batches of 256."""
        pixels = batch(images, self.config.image, self.scaled.shift.device)
        return torch.cat([self.scaled(part).softmax(1) for part in pixels.split(AT_ONCE)])

    def predict(self, images: Any) -> list[str]:
        """The name of the most probable class of each image."""
        return [self.classes[k] for k in self.probabilities(images).argmax(1).tolist()]


def load(folder: Path | str, device: torch.device | str = "cpu") -> Classifier:
    """The network in a folder that `python -m search.export` wrote; `config.json` and `model.safetensors` are read.

    Raises FileNotFoundError where one of the two is not there, and ValueError where they are damaged, do not belong
    together, or are of a newer format.
    """
    from safetensors import SafetensorError  # noqa: PLC0415  for a network with weights only
    from safetensors.torch import load as tensors_of  # noqa: PLC0415  likewise

    folder = Path(folder)
    config = _config(folder)
    data = _read(folder, WEIGHTS)
    if hashlib.sha256(data).hexdigest() != config.weights_sha256:
        raise ValueError(f"{folder / WEIGHTS} is not the file that {CONFIG} was written with; export again")
    # A description of a few bytes can ask for any memory: nothing is built whose weights are not there.
    side = config.net.image_size if config.net.family is Family.ARTICLE else config.net.min_image_size
    if len(data) < 4 * cost(config.net, side).params:  # float32
        raise ValueError(f"{folder / WEIGHTS} has not the weights of the network in {CONFIG} (it is too short)")
    net = build(config.net)
    try:
        net.load_state_dict(tensors_of(data))
    except (RuntimeError, SafetensorError, KeyError) as error:  # KeyError: a type of numbers that torch has not
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder / WEIGHTS} has not the weights of the network in {CONFIG} ({reason})") from None
    return Classifier(net, config).to(device)


def _config(folder: Path) -> Exported:
    path = folder / CONFIG
    try:
        raw: Any = json.loads(_read(folder, CONFIG))
        known = int(raw["format"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is no description of an exported network; export again") from None
    if known != FORMAT:
        raise ValueError(f"{path} has format {known!r}, and this version reads {FORMAT}; install the one that wrote it")
    try:
        return Exported.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        told = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{path}: {where} {told}; export again".replace(":  ", ": ")) from None


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():  # a pipe would be waited for, a device has no end
        raise FileNotFoundError(f"{folder} has no {name}; name a folder that `python -m search.export` wrote")
    return path.read_bytes()
