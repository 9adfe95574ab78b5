"""A training step captured once as a CUDA graph, then replayed: no launch waits for Python."""

import logging

import torch

from search.step import Step

WARM = 3  # steps before the capture, in which libraries choose their kernels and the optimiser makes its buffers
log = logging.getLogger(__name__)


class Replayed:
    """Calls `step` on its GPU: the first times eagerly, then captured. Every call trains; none is thrown away.

    Where the capture fails, all further steps are eager; the capture itself computes nothing, so no step is lost.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._stream = torch.cuda.Stream(step.split.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._eager = WARM

    def __call__(self) -> None:
        if self._graph is None and self._eager == 0:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
            return
        self._eager -= 1
        # The capture needs a stream of its own, and gradients know the stream that they were first computed on.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step()
        torch.cuda.current_stream().wait_stream(self._stream)

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            # Another thread may be copying images to the device meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("the step cannot be captured as a CUDA graph and stays eager (%s)", error)
            self._step.optimiser.zero_grad(set_to_none=True)
            self._eager = -1
        else:
            self._graph = graph
