"""The process in which a study is run or read: for whoever called us it is afterwards as it was before."""

import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna

from search.machine import signal_handlers


@contextmanager
def unchanged() -> Iterator[None]:
    """While it is entered, Optuna is quiet, and libraries may change the process; at the end that is undone.

    That is: environment, loggers, filters of warnings, hooks for what nobody catches, signal handlers, the collection
    of garbage, how often threads take turns. A logger that has come meanwhile follows its parents again.
    """
    environment, loggers = dict(os.environ), _loggers()
    before = {logger: _settings(logger) for logger in loggers}
    hooks, collects, faults = (sys.excepthook, threading.excepthook), gc.isenabled(), faulthandler.is_enabled()
    handlers, turns = signal_handlers(signal.valid_signals()), sys.getswitchinterval()
    try:
        with warnings.catch_warnings():
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        if faulthandler.is_enabled() and not faults:
            faulthandler.disable()
        (gc.enable if collects else gc.disable)()
        sys.excepthook, threading.excepthook = hooks
        sys.setswitchinterval(turns)
        for logger in _loggers():
            if logger in before:
                _restore(logger, before[logger])
            else:
                logger.setLevel(logging.NOTSET)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def _loggers() -> list[logging.Logger]:
    named = [*logging.root.manager.loggerDict.values()]
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


def _settings(logger: logging.Logger) -> dict[str, Any]:
    return {name: getattr(logger, name) for name in ("level", "propagate", "disabled")} | {
        "handlers": [*logger.handlers],
        "filters": [*logger.filters],
    }


def _restore(logger: logging.Logger, settings: dict[str, Any]) -> None:
    logger.setLevel(settings["level"])  # which also forgets what it has remembered of levels
    logger.propagate, logger.disabled = settings["propagate"], settings["disabled"]
    logger.handlers[:], logger.filters[:] = settings["handlers"], settings["filters"]
