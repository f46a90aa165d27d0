"""A fake systemctl, which stores its units in a JSON file. The state runs it in place of the real program."""

import importlib.util
import json
import os
import sys

import pytest
from copied import TOP

SYSTEMCTL = """\
import json, sys
with open({file!r}) as file:
    world = json.load(file)
def save():
    with open({file!r}, "w") as file:
        json.dump(world, file)
words = [word for word in sys.argv[1:] if not word.startswith("--root")]
root = "--root=/" in sys.argv
verb, name = words[0], words[-1]
if verb in ("is-enabled", "is-active", "show"):
    world["asked"].append(" ".join(words))
    save()
if len(words) > 2 and verb.startswith("is-"):
    known = [world["units"].get(name) for name in words[1:]]
    if verb == "is-enabled":  # stops at the first unit that does not exist
        known = known[: known.index(None)] if None in known else known
        print("\\n".join(unit["enabled"] for unit in known))
    if verb == "is-active":
        print("\\n".join(unit["active"] if unit else "inactive" for unit in known))
    sys.exit(0)
unit = world["units"].get(name)
def end(text="", status=0):
    save()
    print(text)
    sys.exit(status)
if verb not in ("is-enabled", "is-active", "show"):
    world["did"].append(" ".join(sys.argv[1:]))
if unit is None:
    if verb in ("is-enabled", "show"):
        end("", 1)
    sys.stderr.write(f"Failed to {{verb}} unit: Unit file {{name}} does not exist.\\n")
    end("", 1)
if root and verb in ("start", "stop", "is-active", "show"):
    sys.stderr.write("systemd is not running\\n")
    end("", 1)
if verb == "is-enabled":
    end(unit["enabled"], 0 if unit["enabled"] == "enabled" else 1)
if verb == "is-active":
    end(unit["active"], 0 if unit["active"] == "active" else 3)
if verb == "show":
    end("\\n".join(f"{{key}}={{value}}" for key, value in unit["shown"].items()) + f"\\nActiveState={{unit['active']}}")
if verb == "enable" and unit["enabled"].startswith("masked"):
    sys.stderr.write(f"Failed to enable unit: Unit file {{name}} is masked.\\n")
    end("", 1)
if verb == "start" and unit.get("broken"):
    sys.stderr.write(f"Job for {{name}} failed.\\n")
    end("", 1)
turned = {{"enable": "enabled", "disable": "disabled", "mask": "masked", "unmask": "disabled"}}
moved = {{"start": "active", "stop": "inactive"}}
unit["enabled"] = turned.get(verb, unit["enabled"])
unit["active"] = moved.get(verb, unit["active"])
end()
"""


class Systemd:
    """The units of the fake systemctl, the commands that changed a unit, and the queries."""

    def __init__(self, file):
        self.file = file
        self.write({"units": {}, "did": [], "asked": []})

    def write(self, world):
        self.file.write_text(json.dumps(world))

    def add(self, name, enabled="disabled", active="inactive", **more):
        world = json.loads(self.file.read_text())
        shown = {"Type": "simple", "ConditionResult": "no", "ConditionTimestampMonotonic": "0", **more.pop("shown", {})}
        world["units"][name] = {"enabled": enabled, "active": active, "shown": shown, **more}
        self.write(world)

    def unit(self, name):
        unit = json.loads(self.file.read_text())["units"][name]
        return unit["enabled"], unit["active"]

    @property
    def did(self):
        return json.loads(self.file.read_text())["did"]

    @property
    def asked(self):
        return json.loads(self.file.read_text())["asked"]


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    file = tmp_path / "units.json"
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    # without site-packages and pathlib, it starts twice as fast
    program.write_text(f"#!{sys.executable} -IS\n" + SYSTEMCTL.format(file=str(file)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return Systemd(file)


@pytest.fixture
def unit(monkeypatch):
    """unit(live=…, test=…) loads the state module as Salt would, on a box or in a chroot.

    of_run: all units of the run, with the function. changed: whether an earlier state has changed something.
    """

    def load(live=True, test=False, of_run=None, changed=False):
        spec = importlib.util.spec_from_file_location("state_unit", TOP / "_states/unit.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.__opts__ = {"test": test}
        of_run = of_run or {}
        module.__context__ = {}
        module.__running__ = {"file_|-a": {"changes": {}}, "file_|-b": {"changes": {"diff": "+"} if changed else {}}}
        module.__lowstate__ = [
            {"state": "file", "name": "/etc/a"},
            *({"state": "unit", "fun": fun, "name": name} for name, fun in of_run.items()),
        ]
        module._running = lambda: live
        return module

    return load
