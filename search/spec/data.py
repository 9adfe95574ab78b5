"""What to train on, and what is known about it: the frozen descriptions that travel between processes."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class DataSpec(BaseModel):
    """A data set and how it is split.

    What needs a look at the disk is refused by `search.data.check`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        default="digits",
        description="digits, mnist, fashion-mnist, cifar10, cifar100, svhn, imagefolder:PATH or npz:PATH",
    )
    dir: str | None = Field(
        default=None,
        description="folder or URL of raw files; default: `datasets` in the user's cache, downloaded to there",
    )
    validation: float = Field(
        default=0.1, gt=0, lt=0.9, description="fraction of the training images, where no validation split is shipped"
    )
    test: float = Field(default=0.2, gt=0, lt=0.9, description="fraction of all images, where no test split is shipped")
    seed: int = Field(
        default=0, ge=0, description="draws the validation split and `limit`; the test split is the same for every seed"
    )
    image_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="pixels, of the square that images of an imagefolder are resized and cropped to; 32",
    )
    limit: int | None = Field(
        default=None, ge=1, description="train on so many images only; validation and test stay whole"
    )

    @field_validator("name", "dir")
    @classmethod
    def _utf_8(cls, value: str | None) -> str | None:
        try:
            (value or "").encode()
        except UnicodeEncodeError:  # it could not be written into records and reports
            raise ValueError(f"= {value!r} has bytes that are not UTF-8; rename it, or give a link to it") from None
        return value


class DataInfo(BaseModel):
    """What is known of a data set before it is prepared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    classes: tuple[str, ...]  # label k is the class named classes[k]
    height: int  # pixels, as are width
    width: int
    channels: int
    n_train: int  # numbers of images
    n_validation: int
    n_test: int
    guess_validation: float  # error in percent of who always names the largest class of that split
    guess_test: float
    note: str = ""  # how the files were understood, where a user may have meant something else

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return self.height, self.width, self.channels


class PreparedInfo(DataInfo):
    """What is known of a data set once it is prepared."""

    digest: str  # sha256 over the stored arrays and the indices of the split: equal digests, equal data
    mean: tuple[float, ...]  # per channel, over the training split, pixels scaled to 0..1
    std: tuple[float, ...]  # likewise, and at least one grey level, so that a constant channel can be divided by it

    @property
    def summary(self) -> dict[str, Any]:
        """What records and reports say of it, as JSON."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "train": self.n_train,
            "validation": self.n_validation,
            "test": self.n_test,
            "shape": list(self.shape),
            "digest": self.digest,
            "guess_validation": self.guess_validation,
            "guess_test": self.guess_test,
        }
