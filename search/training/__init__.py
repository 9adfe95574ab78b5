"""One trial on one device. Neither Ray nor Optuna nor MLflow is known here."""

from typing import TYPE_CHECKING

from search import lazy

if TYPE_CHECKING:
    from search.training import device
    from search.training.batches import Resident
    from search.training.checkpoint import Checkpoint, Writer, latest, pretrained, validated_weights
    from search.training.loop import Epoch, train, train_together
    from search.training.parallel import Group
    from search.training.predictions import Predictions
    from search.training.speed import NoiseLoop, Ready, Team, images_per_s, noise
    from search.training.step import Compiler
else:
    __getattr__ = lazy(
        __name__,
        batches="Resident",
        checkpoint="Checkpoint Writer latest pretrained validated_weights",
        loop="Epoch train train_together",
        parallel="Group",
        predictions="Predictions",
        speed="NoiseLoop Ready Team images_per_s noise",
        step="Compiler",
    )
