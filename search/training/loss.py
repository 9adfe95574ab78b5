"""What a training step makes small."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as ops

from search.spec import TrainSpec
from search.training.augment import Batch


def training_loss(spec: TrainSpec, logits: Float[Tensor, "b k"], batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy of the batch in nats, with label smoothing; with mixup that of both labels by their shares."""
    return batch.measured(lambda labels: ops.cross_entropy(logits, labels, label_smoothing=spec.label_smoothing))
