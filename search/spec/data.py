"""What to train on, and what is known about it: the frozen descriptions that travel between processes."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

SMALL = 64  # pixels: larger images are for networks of ImageNet's family, unless a study says otherwise


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
        description="pixels, of the square that images of a folder or an archive are resized and cropped to; default: "
        "32 for a folder, as they are in an archive",
    )
    limit: int | None = Field(
        default=None, ge=1, description="train on so many images only; validation and test stay whole"
    )
    groups: str | None = Field(
        default=None,
        description="CSV file of each image's path below the folder and its group, such as a patient; a group is in "
        "one split only",
    )
    drop_duplicates: bool | None = Field(
        default=None,
        description="leave out test images of an imagefolder that are nearly the same as one of training or "
        "validation; default: where no test split is shipped",
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
    counts_validation: tuple[int, ...]  # images of each class in that split
    counts_test: tuple[int, ...]
    note: str = ""  # how the files were understood, where a user may have meant something else

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        return self.height, self.width, self.channels

    @property
    def guess_validation(self) -> float:
        """Error in percent of who always names the largest class of that split."""
        return 100 * (1 - max(self.counts_validation) / sum(self.counts_validation))

    @property
    def guess_test(self) -> float:
        """As `guess_validation`."""
        return 100 * (1 - max(self.counts_test) / sum(self.counts_test))

    @property
    def small(self) -> bool:
        """Whether the images are for networks of CIFAR's family."""
        return max(self.height, self.width) <= SMALL


class Survey(BaseModel):
    """What is seen of a folder of images while it is prepared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[str, int]  # class -> its images
    shortest: int  # side of an image in pixels, as are the next two
    median: int  # of the shorter sides
    longest: int
    enlarged: int  # images that are smaller than what networks see
    grey: int  # images without colour
    repeated: int  # of training and validation, images that are nearly the same as an earlier one
    shared: tuple[tuple[str, str], ...]  # a test image, and one of training or validation that it is nearly the same as
    left_out: bool = False  # whether these are not among the test images

    SHOWN: ClassVar[int] = 10  # classes, and pairs of images
    UNEVEN: ClassVar[int] = 10  # times as many images has the largest class as the smallest

    def facts(self) -> dict[str, str]:
        """What is seen -> in words."""
        images = [f"{name} {count:,}" for name, count in self.counts.items()]
        facts = {"images of each class": ", ".join([*images[: self.SHOWN], *(["..."] if images[self.SHOWN :] else [])])}
        least, most = min(self.counts, key=self.counts.__getitem__), max(self.counts, key=self.counts.__getitem__)
        if self.counts[most] >= self.UNEVEN * self.counts[least]:
            facts["uneven"] = (
                f"{least} has {self.counts[least]:,} images, {most} {self.counts[most]:,}; each counts alike with "
                "--set train.class_weights=balanced --set 'search.objectives=[val_balanced_error]'"
            )
        facts["sides"] = f"{self.shortest:,} to {self.longest:,} pixels, the shorter {self.median:,} in the median"
        facts |= (
            {"enlarged": f"{self.enlarged:,}, for they are smaller than what networks see"} if self.enlarged else {}
        )
        facts |= {"grey": f"{self.grey:,}"} if self.grey else {}
        if self.repeated:
            facts["repeated"] = f"{self.repeated:,} to train on or validate by are nearly the same as another of these"
        facts |= {"in test and training": self.warning} if self.warning else {}
        return facts

    @property
    def warning(self) -> str:
        """That test images are seen in training, too; empty where none is."""
        if not self.shared:
            return ""
        pairs = [f"{one} as {other}" for one, other in self.shared[: self.SHOWN]]
        more = ", ..." if self.shared[self.SHOWN :] else ""
        then = "left out of the test" if self.left_out else "which makes the test error too low"
        return f"{len(self.shared):,} test images are nearly the same as others, {then}: {', '.join(pairs)}{more}"


class PreparedInfo(DataInfo):
    """What is known of a data set once it is prepared."""

    survey: Survey | None = None  # of a folder of images

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
            "counts_validation": list(self.counts_validation),
            "counts_test": list(self.counts_test),
        } | ({"survey": self.survey.model_dump(mode="json")} if self.survey else {})
