"""The last lines of a terminal, drawn again as a study goes on; where there is no terminal, plain lines alone."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

RENDERS_PER_SECOND = 4


class LiveScreen(ABC):
    """As a context it owns the terminal's last lines. On no terminal (a file, a pipe, TERM=dumb) it draws nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live = Live(
                console=self._console,
                get_renderable=self._screen,
                refresh_per_second=RENDERS_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Prints one line, above what is drawn."""
        self._console.print(" ".join(text.split()), markup=False, highlight=False, soft_wrap=True)

    @abstractmethod
    def _screen(self) -> RenderableType:
        """What is drawn, at most four times a second."""
