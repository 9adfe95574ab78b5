"""What `import resnet` offers, and what it does not load."""

import subprocess
import sys
from inspect import getmodule

import resnet


def test_every_name_is_what_its_module_made() -> None:
    loaded = {name: getattr(resnet, name) for name in dir(resnet)}
    assert {"NetSpec", "build", "cost", "load", "signal"} < loaded.keys()
    assert all(thing.__name__ == name for name, thing in loaded.items())
    assert all(getmodule(thing) is sys.modules[thing.__module__] for thing in loaded.values())


def test_a_network_is_described_without_torch() -> None:
    program = "import resnet.spec, resnet.names, resnet.route, sys; print(*sys.modules)"
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "resnet.spec" in asked.stdout.split()
    assert "torch" not in asked.stdout.split()
