"""SIGKILL at random moments of a build: the next run ends with the same bytes, and nothing is left of the killed one.

The moments follow from SEED. Four by default; VAULT_CUBE_KILLS=20 has twenty, and two more while the root is made.
What happened at each is left in build/kills-<what>.json.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import base_tree
import pytest
import small_build

from vault_cube.image import recipe
from vault_cube.image.cache import keys
from vault_cube.image.layers import tools
from vault_cube.image.workspace import default_cache

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a root tree: needs root"),
]

TOP = Path(__file__).parents[2]
SCRIPT = TOP / "tests/integration/small_build.py"
PYTHONPATH = os.pathsep.join(map(str, (TOP / "tests", TOP / "tests/integration", TOP)))
SEED = 20261125
KILLS = int(os.environ.get("VAULT_CUBE_KILLS", "4"))


class Small:
    """A small checkout, and runs of its build in caches of their own."""

    def __init__(self, folder, seeds, *words):
        self.folder, self.words = folder, words
        small_build.small(folder / "checkout")
        (folder / "tmp").mkdir()
        # hard links of these make a new cache in no time; on another file system (--basetemp=/dev/shm/…) copies
        (folder / "seeds").mkdir()
        for tree in seeds:
            linked = subprocess.run(["cp", "-al", tree, folder / "seeds"], check=False, capture_output=True).returncode
            if linked:
                subprocess.run(["cp", "-a", tree, folder / "seeds"], check=True)
        self.seeds = list((folder / "seeds").iterdir())
        self.store = Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store")

    def empty(self, cache):
        """A cache in which only the trees are that a small build does not make itself."""
        (cache / "layers").mkdir(parents=True)
        for tree in self.seeds:
            # the builder never writes into a finished tree
            subprocess.run(["cp", "-al", tree, cache / "layers"], check=True)
        subprocess.run(["rm", "-rf", self.folder / "checkout/build", self.folder / "checkout/dist"], check=True)

    def start(self, cache):
        command = [
            sys.executable,
            TOP / "tests/integration/small_build.py",
            self.folder / "checkout",
            cache,
            self.store,
        ]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*command, *self.words], stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder,
                env={**os.environ, "PYTHONPATH": PYTHONPATH, "TMPDIR": str(self.folder / "tmp")},
            )  # fmt: skip

    def run(self, cache):
        """A whole run: what it made, file → sha256."""
        with self.start(cache) as process:
            said = process.stdout.read()
        assert process.returncode == 0, (self.folder / "log").read_text()[-3000:]
        return json.loads(said)

    def timed(self, cache):
        """A whole run, when each of its stages began (seconds since its start), and how long it took."""
        began, begun = time.monotonic(), {"start": 0.0}
        with self.start(cache) as process:
            while process.poll() is None:
                for stage in self.stages():
                    begun.setdefault(stage, round(time.monotonic() - began, 2))
                time.sleep(0.02)
            said = process.stdout.read()
        assert process.returncode == 0, (self.folder / "log").read_text()[-3000:]
        return json.loads(said), begun, time.monotonic() - began

    def stages(self):
        """What a run has begun so far, by its own words."""
        lines = (self.folder / "log").read_text().splitlines()
        return ["start", *(line.removeprefix("→ ").partition(":")[0] for line in lines if line.startswith("→"))]

    def finished(self, whole, cache, stages):
        """Give a cache the trees that some stages of the whole run have made."""
        for tree in (whole / "layers").iterdir():
            if json.loads((tree / "meta.json").read_text())["name"] in stages:
                subprocess.run(["cp", "-al", tree, cache / "layers"], check=True)


def left(cache):
    """What a build in a cache has left on this machine: processes, and mounts in any of their namespaces."""
    found, wanted = [], str(cache)
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mounts = (process / "mounts").read_text()
            root = str((process / "root").readlink())
        except OSError:
            continue
        if wanted in words or wanted in mounts or root.startswith(wanted):
            found.append(f"{process.name}: {words or root}")
    return found


def loops():
    return subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=False).stdout


def killed(small, what, kills):
    """Kill that many runs and finish each; returns what happened at each.

    A moment of the undisturbed run is a stage and the seconds since it began. What the stages before it had finished by
    then is put there at once, so that only the stage itself is run up to the kill.
    """
    whole = small.folder / "whole"
    small.empty(whole)
    wanted, begun, seconds = small.timed(whole)
    chance = random.Random(f"{SEED} {what}")
    moments = sorted(chance.uniform(0, seconds) for _ in range(kills))
    devices, events = loops(), []
    for number, moment in enumerate(moments):
        stage = max((name for name in begun if begun[name] <= moment), key=lambda name: begun[name])
        cache = small.folder / f"cache-{number}"
        # on a machine that has become faster the stage may be over by then: the same stage, earlier
        for part in (1, 0.5, 0.25, 0.1):
            subprocess.run(["rm", "-rf", cache], check=True)
            small.empty(cache)
            small.finished(whole, cache, list(begun)[: list(begun).index(stage)])
            (small.folder / "log").unlink()
            with small.start(cache) as process:
                while process.poll() is None and stage not in small.stages():
                    time.sleep(0.01)
                try:
                    process.wait((moment - begun[stage]) * part)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
            if process.returncode == -signal.SIGKILL:
                break
        during = small.stages()[-1] if process.returncode == -signal.SIGKILL else "after the end"
        deadline = time.monotonic() + 30
        while left(cache) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left(cache) == [], f"killed at {moment:.2f} s"
        scratch = sorted(path.name for path in (cache / "work").glob("*")) if (cache / "work").exists() else []
        made = small.run(cache)
        events.append({"second": round(moment, 2), "during": during, "scratch": scratch, "same": made == wanted})
        assert made == wanted, f"killed at {moment:.2f} s, during {during}"
        assert list((cache / "work").iterdir()) == []
        assert left(cache) == []
        assert loops() == devices
        assert list((small.folder / "tmp").iterdir()) == []
        assert list((small.folder / "checkout/build").rglob("*.new")) == []
        subprocess.run(["rm", "-rf", cache], check=True)
        record = {"seed": SEED, "undisturbed_s": round(seconds, 1), "begun_s": begun, "sha256": wanted, "kills": events}
        (TOP / "build").mkdir(exist_ok=True)
        (TOP / f"build/kills-{what}.json").write_text(json.dumps(record, indent=1) + "\n")
    return events


@pytest.fixture(scope="module")
def finished():
    """The finished tools and root trees of the default target, from the shared cache or made now."""
    space = base_tree.workspace()
    root = base_tree.root_tree(space)
    with space.exclusive():
        made = recipe.make_tools(space)
    assert made.tree == tools.tree(space)
    return [made.folder, root.parent]


@pytest.fixture(autouse=True)
def _all_layers():
    """The small build runs in processes of its own: nothing of it is patched in here."""
    assert len(keys.ORDER) == 6


def test_a_build_that_is_killed_ends_the_same_and_leaves_nothing(tmp_path, finished):
    events = killed(Small(tmp_path, finished), "build", KILLS)
    assert len(events) == KILLS
    assert sum(event["during"] != "after the end" for event in events) >= KILLS * 0.9


@pytest.mark.skipif(KILLS < 20, reason="makes the root several times: VAULT_CUBE_KILLS=20")
def test_a_root_that_is_killed_ends_the_same_and_leaves_nothing(tmp_path, finished):
    assert len(killed(Small(tmp_path, finished[:1], "root"), "root", KILLS // 10)) == KILLS // 10


def test_two_builds_of_a_target_at_once(tmp_path, finished):
    """The second says that it must wait, and for whom; the first is not disturbed."""
    small = Small(tmp_path, finished)
    small.empty(tmp_path / "cache")
    with small.start(tmp_path / "cache") as first:
        lock = tmp_path / "checkout/build/debian-12/lock"
        while not (lock.exists() and lock.read_text()):
            assert first.poll() is None
            time.sleep(0.05)
        with small.start(tmp_path / "cache") as second:
            pass
        said = (tmp_path / "log").read_text()
        assert second.returncode != 0
        assert f"another build of debian-12 runs in this checkout (process {first.pid})" in said
        assert first.poll() is None
        assert json.loads(first.stdout.read())["raw"]
    assert first.returncode == 0
