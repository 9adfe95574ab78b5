"""A program that runs a study twice and prints what of its own process is not as before: one JSON object, last line."""

PROGRAM = """
import faulthandler, gc, json, logging, os, signal, sys, threading, warnings
from pathlib import Path

import mlflow, optuna, psutil, ray, torch
from search import Study


def state():
    named = {"": logging.root} | logging.root.manager.loggerDict
    loggers = {name: one for name, one in named.items() if isinstance(one, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "levels": {name: one.level for name, one in loggers.items()},
        "handlers": {name: list(map(id, one.handlers)) for name, one in loggers.items()},
        "propagate": {name: one.propagate for name, one in loggers.items()},
        "warnings": list(map(str, warnings.filters)),
        "signals": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)),
        "hooks": (str(sys.excepthook), str(threading.excepthook), faulthandler.is_enabled()),
        "ray": ray.is_initialized(),
        "listening": sorted(str(one.laddr) for one in psutil.Process().net_connections() if one.status == "LISTEN"),
        "connections": len([one for one in psutil.Process().net_connections("inet") if one.status == "ESTABLISHED"]),
        "children": len([one for one in psutil.Process().children() if one.status() != "zombie"]),
        "folder": os.getcwd(),
    }


def differs(before, after):
    if isinstance(before, dict):  # a logger that has come since was nobody's
        return {k: (before.get(k), after.get(k)) for k in before.keys() | after.keys()
                if before.get(k) != after.get(k) and not (k not in before and isinstance(after[k], (int, list)))}
    return {} if before == after else (before, after)


def compared(before):
    after = state()
    found = {name: differs(before[name], after[name]) for name in before}
    return {name: str(difference) for name, difference in found.items() if difference}


gc.set_threshold(650, 9, 9)
before = state()
spec = json.loads(Path("study.json").read_text())
study = Study.create(spec, name="tiny", trials=2, sampler="grid", max_concurrent=1)
result = study.run()
changed = {"completed": compared(before)}
trials = [trial.state for trial in study.trials]

faults = []
journal = Path("results/fails/optuna.journal")


def fails():
    try:
        Study.create(spec, name="fails", trials=2, max_concurrent=1, set={"space.net.depth": [8, 14]}).run()
    except Exception as error:
        faults.append(type(error).__name__)


def breaks():  # once the first trial is at work its records cannot be written any more
    while not list(Path("results/fails").glob("trials/*")):
        done.wait(0.05)
    Path("folder").mkdir()
    Path("link").symlink_to(Path("folder").absolute())
    os.replace("link", journal)  # at one instant


done = threading.Event()
workers = [threading.Thread(target=fails), threading.Thread(target=breaks, daemon=True)]
for worker in workers:
    worker.start()
workers[0].join()
changed["failed"] = compared(before)
print(json.dumps({"trials": trials, "answer": result.answer, "fault": (faults or [None])[0], "changed": changed}))
"""
