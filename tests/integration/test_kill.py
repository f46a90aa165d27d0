"""Kill a build with SIGKILL at random times: the next run makes the same bytes, and the killed one leaves nothing.

The times depend on SEED. There are four by default; with VAULT_CUBE_KILLS=20, twenty, and two more while the root tree
is made. build/kills-<what>.json records what happened at each.
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
from vault_cube.image.inputs import Inputs
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
    """A small checkout, and runs of its build with separate caches."""

    def __init__(self, folder, seeds, *words):
        self.folder, self.words = folder, words
        small_build.small(folder / "checkout")
        (folder / "tmp").mkdir()
        # new caches are made of hard links to these; on another file system (--basetemp=/dev/shm/…), of copies
        (folder / "seeds").mkdir()
        for tree in seeds:
            linked = subprocess.run(["cp", "-al", tree, folder / "seeds"], check=False, capture_output=True).returncode
            if linked:
                subprocess.run(["cp", "-a", tree, folder / "seeds"], check=True)
        self.seeds = list((folder / "seeds").iterdir())
        self.store = Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store")

    def empty(self, cache):
        """Make a cache with only the trees that a small build does not make itself."""
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
        """Run the whole build. Returns the SHA-256 of each file."""
        with self.start(cache) as process:
            stdout = process.stdout.read()
        assert process.returncode == 0, (self.folder / "log").read_text()[-3000:]
        return json.loads(stdout)

    def timed(self, cache):
        """Run the whole build. Returns its digests, the start of each stage and the duration, in seconds."""
        began, begun = time.monotonic(), {"start": 0.0}
        with self.start(cache) as process:
            while process.poll() is None:
                for stage in self.stages():
                    begun.setdefault(stage, round(time.monotonic() - began, 2))
                time.sleep(0.02)
            stdout = process.stdout.read()
        assert process.returncode == 0, (self.folder / "log").read_text()[-3000:]
        return json.loads(stdout), begun, time.monotonic() - began

    def stages(self):
        """Return the stages that a run has started so far, according to its output."""
        lines = (self.folder / "log").read_text().splitlines()
        return ["start", *(line.removeprefix("→ ").partition(":")[0] for line in lines if line.startswith("→"))]

    def finished(self, whole, cache, stages):
        """Add the trees to a cache that the given stages of the whole run made."""
        for tree in (whole / "layers").iterdir():
            if json.loads((tree / "meta.json").read_text())["name"] in stages:
                subprocess.run(["cp", "-al", tree, cache / "layers"], check=True)


def left(cache):
    """Return the processes that a build left on this machine, including those with its mounts in their namespaces."""
    processes, wanted = [], str(cache)
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
            processes.append(f"{process.name}: {words or root}")
    return processes


def loops():
    return subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=False).stdout


def killed(small, what, kills):
    """Kill a number of runs and finish each. Returns what happened at each.

    Each time in the undisturbed run is a stage and the seconds since its start. The results of the stages before it are
    copied from the undisturbed run, so that only the stage itself runs before the kill.
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
        # if the machine is faster now, the stage may already be over: kill the same stage earlier
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
        digests = small.run(cache)
        events.append({"second": round(moment, 2), "during": during, "scratch": scratch, "same": digests == wanted})
        assert digests == wanted, f"killed at {moment:.2f} s, during {during}"
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
    """The finished tools and root trees of the default target, made if they are not in the shared cache."""
    space = base_tree.workspace()
    root = base_tree.root_tree(space)
    with space.exclusive():
        entry = recipe.make_tools(space, Inputs.read(space))
    assert entry.tree == tools.tree(space)
    return [entry.folder, root.parent]


@pytest.fixture(autouse=True)
def _all_layers():
    """The small build runs in separate processes, so the list of layers is not changed in this one."""
    assert len(keys.ORDER) == 6


def test_a_killed_build_leaves_nothing_and_the_next_run_makes_the_same_bytes(tmp_path, finished):
    events = killed(Small(tmp_path, finished), "build", KILLS)
    assert len(events) == KILLS
    assert sum(event["during"] != "after the end" for event in events) >= KILLS * 0.9


@pytest.mark.skipif(KILLS < 20, reason="makes the root several times: VAULT_CUBE_KILLS=20")
def test_a_killed_build_of_the_root_leaves_nothing_and_the_next_run_makes_the_same_bytes(tmp_path, finished):
    assert len(killed(Small(tmp_path, finished[:1], "root"), "root", KILLS // 10)) == KILLS // 10


def test_two_builds_of_a_target_at_once(tmp_path, finished):
    """The second fails and names the process of the first, which is not disturbed."""
    small = Small(tmp_path, finished)
    small.empty(tmp_path / "cache")
    with small.start(tmp_path / "cache") as first:
        lock = tmp_path / "checkout/build/debian-12/lock"
        while not (lock.exists() and lock.read_text()):
            assert first.poll() is None
            time.sleep(0.05)
        with small.start(tmp_path / "cache") as second:
            pass
        log = (tmp_path / "log").read_text()
        assert second.returncode != 0
        assert f"another build of debian-12 runs in this checkout (process {first.pid})" in log
        assert first.poll() is None
        assert json.loads(first.stdout.read())["raw"]
    assert first.returncode == 0
