"""What can be told of a study before anything is trained: that it cannot work, and what its networks cost."""

import itertools
from collections.abc import Iterable, Iterator

from search import data
from search.errors import InputError
from search.optimize import Proposer, tried_first
from search.spec import (
    Appraisal,
    DataInfo,
    LimitSpec,
    Space,
    StudySpec,
    TrainSpec,
    TrialSpec,
    appraise,
    on_images,
)
from search.storage import Output
from search.study.latencies import networks
from search.study.weights import find

COUNTED = 300  # networks that are counted one by one: a second or two
BUILT = 500  # of the smallest and largest networks: where none of so many is within the limits, the search finds out


def planned(spec: StudySpec) -> tuple[DataInfo, Space, Proposer]:
    """The data, the space and who proposes, before anything is prepared.

    Raises:
        InputError: the study cannot work.
    """
    info = data.check(spec.data)
    space = spec.make_space(info.shape, len(info.classes))
    space.check(info.shape[:2])
    spec.rows(info.shape, len(info.classes))
    networks(spec, space, info)
    path = "train.batch_size"
    asked = [d.ends[1] for d in space.dimensions if d.path == path]
    asked += [float(given[path]) for given in (spec.fixed, *(row.set for row in spec.compare)) if path in given]
    if max(asked, default=0) > info.n_train:
        raise InputError(
            f"{path} = {max(asked):.0f} is more than the {info.n_train} training images of {info.name}; give at most "
            "as many"
        )
    return info, space, check(spec, space, info.shape[:2])


def fetch(spec: StudySpec, output: Output) -> None:
    """Downloads what the study needs and this machine does not have: a published data set, weights of ImageNet.

    Raises:
        InputError: the study cannot work, or a download fails.
    """
    info, space, _ = planned(spec)
    if ":" not in spec.data.name:  # else they are files, and stay where they are
        data.prepare(spec.data)
    find(spec, info, space, output, keep=lambda file: "")


def check(spec: StudySpec, space: Space, image: tuple[int, int]) -> Proposer:
    """Refuses what could only fail later; returns who proposes the study's trials on images of `image` pixels.

    Raises:
        InputError: the sampler is not for this space, the space does not hold a start, a start is beyond the limits, or
            all networks are.
    """
    if spec.limits != LimitSpec():
        _check_limits(spec, space, image)
    begun = tried_first(spec, space, lambda trial: appraise(trial, image, spec.limits))
    return Proposer.of(spec.search, space, begun)


def within(spec: StudySpec, space: Space, image: tuple[int, int]) -> tuple[int, int] | None:
    """How many networks of the space are within the limits at the smallest batch, and of how many.

    None where they are too many to count.
    """
    nets = space.networks()
    if any(d.values is None for d in nets.dimensions) or nets.size(COUNTED + 1) > COUNTED:
        return None
    every = {trial.digest: trial for trial in map(on_images, map(nets.specify, nets.combinations(values=True)))}
    able = sum(appraised.reason is None for appraised in _appraised(spec, space, every.values(), image))
    return able, len(every)


def _appraised(
    spec: StudySpec, space: Space, networks: Iterable[TrialSpec], image: tuple[int, int]
) -> Iterator[Appraisal]:
    """Of each network, trained in the smallest batches of the space."""
    batches = [v for d in space.dimensions if d.path == "train.batch_size" for v in d.extremes if isinstance(v, int)]
    batch = min(batches, default=int(space.fixed.get("train.batch_size", TrainSpec().batch_size)))
    for trial in networks:
        train = trial.train.model_copy(update={"batch_size": batch})
        yield appraise(trial.model_copy(update={"train": train}), image, spec.limits)


def _check_limits(spec: StudySpec, space: Space, image: tuple[int, int]) -> None:
    """All costs grow with depth and width, and a signal only gets weaker: what fails for the smallest fails for all."""
    found: list[Appraisal] = []
    for appraisal in _appraised(spec, space, itertools.islice(space.extremes(), BUILT + 1), image):
        if appraisal.reason is None or len(found) == BUILT:
            return
        found.append(appraisal)
    least = {
        "params": min(a.params for a in found),
        "macs": min(a.macs for a in found),
        "activation_memory": min(a.activation_bytes for a in found),
    }
    for name, value in least.items():
        limit: int | None = getattr(spec.limits, name)
        if limit is not None and value > limit:
            raise InputError(
                f"limits.{name} = {limit:,} is below the smallest network of the space ({value:,}); raise it, or allow "
                "smaller networks"
            )
    raise InputError(
        f"limits = {spec.limits.model_dump(exclude_none=True, exclude_defaults=True)} leave no network of the space "
        f"(of one: {found[0].reason}); raise a limit, or allow other networks"
    )
