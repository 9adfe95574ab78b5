"""What is asked: a study and its trials, checked, before anything runs."""
# pyright: reportUnusedImport=false

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.spec import plain_yaml
    from search.spec.catalogue import find, shipped
    from search.spec.compare import Configuration
    from search.spec.data import DataInfo, DataSpec, PreparedInfo, Survey
    from search.spec.json_schema import schema
    from search.spec.limits import Appraisal, appraise
    from search.spec.published import Figure, Found, Recipe
    from search.spec.sections import (
        AUTO,
        Former,
        LatencySpec,
        LimitSpec,
        Objective,
        ResourceSpec,
        Sampler,
        Scheduler,
        SearchSpec,
        Share,
    )
    from search.spec.space import Dimension, Space, on_images
    from search.spec.study import StudySpec, load
    from search.spec.trial import Crop, Loss, Optimizer, Schedule, TrainSpec, TrialSpec, Value
else:
    __getattr__ = lazy(
        __name__,
        catalogue="find shipped",
        compare="Configuration",
        data="DataInfo DataSpec PreparedInfo Survey",
        limits="Appraisal appraise",
        published="Figure Found Recipe",
        json_schema="schema",
        sections="AUTO Former LatencySpec LimitSpec Objective ResourceSpec Sampler Scheduler SearchSpec Share",
        space="Dimension Space on_images",
        study="StudySpec load",
        trial="Crop Loss Optimizer Schedule TrainSpec TrialSpec Value",
    )
