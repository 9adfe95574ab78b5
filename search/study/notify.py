"""Tells a URL, or a program of the user's, what becomes of a study: it has finished, halted, or has a new champion."""

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from queue import SimpleQueue
from urllib.parse import urlsplit

from search.errors import HIDDEN, first_line, public, without_credentials
from search.spec import StudySpec

TRIES = 4
WAIT = 0.5  # seconds before the second try; each further one waits twice as long
ANSWER_SECONDS = 2.0  # for which a try waits
END_SECONDS = 5.0  # for which the end of a study waits, whatever has not arrived by then


class Notices:
    """Sends in a thread of its own: nothing waits for it but `close`, and that for seconds.

    Args:
        spec: its `notify` is a URL, which gets a POST of JSON, or a program, which reads the same.
        place: path or URL of the study.
    """

    def __init__(self, spec: StudySpec, place: str) -> None:
        self._to, self._study, self._place = None if missing(spec) else spec.notify, spec.name, public(place)
        self._name = receiver(spec)
        self._queue = SimpleQueue[bytes | None]()
        self._trouble: str | None = None
        self._thread: threading.Thread | None = None

    def send(self, event: str, text: str, detail: str = "") -> None:
        """What has happened: `finished`, `halted` or `champion`, a sentence, and what more there is to tell."""
        if self._to is None:
            return
        notice = {
            "event": event,
            "study": self._study,
            "place": self._place,
            "text": f"{self._study}: {without_credentials(text)}",
            "detail": without_credentials(detail),
        }
        self._queue.put(json.dumps(notice).encode())
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="notices", daemon=True)
            self._thread.start()

    def close(self) -> str | None:
        """Waits until all has arrived, for `END_SECONDS` at most; returns why it has not, without secrets."""
        if self._thread is None:
            return None
        self._queue.put(None)
        self._thread.join(END_SECONDS)
        late = f"{self._name} has not answered within {END_SECONDS:g} s" if self._thread.is_alive() else None
        trouble = self._trouble or late
        return trouble and f"notify: {trouble}; the study is not affected"

    def _work(self) -> None:
        while (notice := self._queue.get()) is not None:
            cause, wait = self._try(notice), WAIT
            for _ in range(TRIES - 1):
                if cause is not None:
                    time.sleep(wait)
                    cause, wait = self._try(notice), 2 * wait
            if cause is not None:
                self._trouble = f"{self._name} did not take a notice ({cause})"

    def _try(self, notice: bytes) -> str | None:
        """Why it did not arrive; None where it did."""
        try:
            if isinstance(self._to, str):
                headers = {"Content-Type": "application/json"}
                request = urllib.request.Request(self._to, notice, headers, method="POST")
                urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
            elif self._to is not None:
                program = self._to.command
                subprocess.run(program, input=notice, timeout=ANSWER_SECONDS, check=True, capture_output=True)
            return None
        except urllib.error.HTTPError as error:
            return f"HTTP status {error.code}"
        except urllib.error.URLError as error:
            return str(getattr(error.reason, "strerror", None) or error.reason)
        except subprocess.CalledProcessError as error:
            return f"exit status {error.returncode}"
        except subprocess.TimeoutExpired:
            return f"no end within {ANSWER_SECONDS:g} s"
        except OSError as error:
            return error.strerror or first_line(error)


def missing(spec: StudySpec) -> str | None:
    """That the address of a continued study is not known, for its records keep no secrets; None where it is."""
    if isinstance(spec.notify, str) and spec.notify.endswith(f"/{HIDDEN}"):
        return (
            f"notify: the records keep only {receiver(spec)} of the URL; give it again by --set notify=URL to be told"
        )
    return None


def receiver(spec: StudySpec) -> str:
    """Who is told, without secrets."""
    if spec.notify is None or isinstance(spec.notify, str):
        return urlsplit(spec.notify or "").hostname or ""
    return spec.notify.command[0]
