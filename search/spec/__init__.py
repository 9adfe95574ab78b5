"""What is asked: a study and its trials, checked, before anything runs."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.spec.catalogue import find, shipped
    from search.spec.compare import Configuration, Row
    from search.spec.data import DataInfo, DataSpec, PreparedInfo
    from search.spec.limits import Appraisal, appraise, extremes, smallest_and_largest
    from search.spec.plain_yaml import parse, read
    from search.spec.published import FAIL, Figure, Found, differences, figure, figures_for, keys
    from search.spec.sections import (
        FinalSpec,
        LimitSpec,
        Objective,
        ResourceSpec,
        Sampler,
        Scheduler,
        SearchSpec,
        Share,
    )
    from search.spec.space import Dimension, Space, suggested
    from search.spec.study import StudySpec, flatten, load
    from search.spec.trial import Compile, Crop, Schedule, TrainSpec, TrialSpec, Value

__all__ = [
    "FAIL",
    "Appraisal",
    "Compile",
    "Configuration",
    "Crop",
    "DataInfo",
    "DataSpec",
    "Dimension",
    "Figure",
    "FinalSpec",
    "Found",
    "LimitSpec",
    "Objective",
    "PreparedInfo",
    "ResourceSpec",
    "Row",
    "Sampler",
    "Schedule",
    "Scheduler",
    "SearchSpec",
    "Share",
    "Space",
    "StudySpec",
    "TrainSpec",
    "TrialSpec",
    "Value",
    "appraise",
    "differences",
    "extremes",
    "figure",
    "figures_for",
    "find",
    "flatten",
    "keys",
    "load",
    "parse",
    "read",
    "shipped",
    "smallest_and_largest",
    "suggested",
]

__getattr__ = lazy(
    __name__,
    catalogue="find shipped",
    compare="Configuration Row",
    data="DataInfo DataSpec PreparedInfo",
    limits="Appraisal appraise extremes smallest_and_largest",
    plain_yaml="parse read",
    published="FAIL Figure Found differences figure figures_for keys",
    sections="FinalSpec LimitSpec Objective ResourceSpec Sampler Scheduler SearchSpec Share",
    space="Dimension Space suggested",
    study="StudySpec flatten load",
    trial="Compile Crop Schedule TrainSpec TrialSpec Value",
)
