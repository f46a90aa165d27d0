"""The store with faulty servers: unverified files are never added, and each failure is reported with its reason."""

import hashlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import mirror as servers
import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import store as stores
from vault_cube.image.store import Store, Unavailable, Wanted

SIZE = 300_000


@pytest.fixture
def mirror(tmp_path):
    (tmp_path / "served").mkdir()
    with servers.running(tmp_path / "served") as mirror:
        yield mirror


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """Bypass this machine's proxies for the local server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def data(name, size=SIZE):
    return random.Random(name).randbytes(size)


@pytest.fixture
def file(mirror):
    """file(name) puts a file on the server and returns its entry as it would be in a lock."""

    def make(name="a.deb", size=SIZE, places=None, known=True):
        content = data(name, size)
        (mirror.folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return Wanted(digest, name, size if known else 0, places or (f"{mirror.url}/{name}",))

    return make


def refused(store, *wanted):
    """Fetch, expect a failure, and return it. No failed file may be in the store."""
    with pytest.raises(Unavailable) as caught:
        store.fetch(wanted, "test")
    assert "\n" not in str(caught.value)
    for file in wanted:
        if file in [failure.wanted for failure in caught.value.failures]:
            assert not store.has(file.sha256)
    return caught.value


# ---- successful downloads


def test_a_fetched_file_is_named_by_its_sha256_and_read_only(store, file):
    deb, wheel = file("a.deb"), file("b.whl", known=False)
    assert store.fetch([deb, wheel, deb], "test") == 2 * SIZE
    for wanted in (deb, wheel):
        path = store.verified(wanted.sha256, wanted.name)
        assert path.read_bytes() == data(wanted.name)
        assert path.stat().st_mode & 0o777 == 0o444
    assert list((store.root / "part").iterdir()) == []


def test_a_stored_file_is_not_requested_again(store, file, mirror):
    store.fetch([file()], "test")
    assert store.fetch([file()], "test") == 0
    assert len(mirror.asked) == 1


def test_fetching_nothing_returns_zero(store):
    assert store.fetch([], "test") == 0


def test_the_urls_are_tried_in_order(store, file, mirror):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, but not listening
        unreachable = f"http://127.0.0.1:{deaf.getsockname()[1]}/a.deb"
        wanted = file(places=(unreachable, f"{mirror.url}/gone.deb", f"{mirror.url}/a.deb", f"{mirror.url}/never.deb"))
        assert store.fetch([wanted], "test") == SIZE
    assert [path for path, _ in mirror.asked] == ["gone.deb", "a.deb"]


def test_several_files_are_fetched_at_the_same_time(store, file, mirror):
    mirror.slow = 0.2
    store.fetch([file(f"{number}.deb", 1000) for number in range(12)], "test")
    assert 2 <= mirror.most_together <= stores.CONNECTIONS


def test_a_file_url_is_copied(store, file, tmp_path):
    wanted = file()
    local = Wanted(wanted.sha256, "a b.deb", SIZE, ((tmp_path / "served/a.deb").as_uri(),))
    assert store.fetch([local], "test") == SIZE


# ---- interrupted downloads are resumed


@pytest.mark.parametrize("known", [True, False])
def test_an_interrupted_download_is_resumed(store, file, mirror, known):
    wanted = file(known=known)
    mirror.answers["a.deb"] = [servers.cut(100_000), servers.cut(150_000), servers.serve]
    assert store.fetch([wanted], "test") == SIZE
    assert mirror.asks("a.deb") == [None, "bytes=100000-", "bytes=250000-"]


def test_the_next_run_resumes_a_download(store, file, mirror):
    wanted = file()
    mirror.answers["a.deb"] = [servers.cut(60_000)]
    refused(store, wanted)
    mirror.answers = {}
    assert store.fetch([wanted], "test") == SIZE
    assert mirror.asks("a.deb")[-1] == "bytes=180000-"


def test_a_download_is_resumed_from_another_url(store, file, mirror):
    (mirror.folder / "other.deb").write_bytes(data("a.deb"))
    wanted = file(places=(f"{mirror.url}/a.deb", f"{mirror.url}/other.deb"))
    mirror.answers["a.deb"] = [servers.cut(50_000), servers.status(404)]
    assert store.fetch([wanted], "test") == SIZE
    assert mirror.asks("other.deb") == ["bytes=50000-"]


def test_without_range_support_the_download_starts_over(store, file, mirror):
    mirror.answers["a.deb"] = [servers.cut(100_000), servers.no_ranges]
    assert store.fetch([file()], "test") == SIZE


@pytest.mark.parametrize("left", [b"rubbish", b"\0" * SIZE, b"\0" * (SIZE + 1)])
def test_a_corrupt_partial_file_is_fetched_again(store, file, left):
    """A partial file with wrong contents, as a power failure may leave it."""
    wanted = file()
    (store.root / "part").mkdir(parents=True)
    (store.root / "part" / wanted.sha256).write_bytes(left)
    assert store.fetch([wanted], "test") == SIZE


# ---- failed downloads


WRONG = {
    # answer -> (reason, whether the file was removed from the server)
    "404": (servers.status(404), "the server returned status 404", True),
    "410": (servers.status(410), "the server returned status 410", True),
    "403": (servers.status(403), "the server returned status 403", False),
    "500": (servers.status(500), "the server returned status 500", False),
    "other bytes": (servers.wrong, "its sha256 differs from the lock", False),
    "truncated": (servers.short(1000), f"received only 1000 of {SIZE} bytes", False),
    "empty": (servers.short(0), f"received only 0 of {SIZE} bytes", False),
    "cut": (servers.cut(10), "the connection was interrupted", False),
    "endless": (servers.endless, "the file is larger than in the lock", False),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_failure_is_reported_with_url_and_reason(store, file, mirror, case):
    answer, reason, gone = WRONG[case]
    mirror.answers["a.deb"] = [answer]
    failure = refused(store, file())
    assert str(failure) == f"a.deb cannot be fetched: {mirror.url}/a.deb: {reason}"
    assert failure.gone is gone


def test_a_truncated_file_of_unknown_size_has_the_wrong_sha256(store, file, mirror):
    mirror.answers["a.deb"] = [servers.short(1000)]
    assert "its sha256 differs from the lock" in str(refused(store, file(known=False)))


def test_no_more_bytes_than_in_the_lock_are_written(store, file, mirror):
    mirror.answers["a.deb"] = [servers.endless]
    refused(store, file(size=10))
    assert sum(part.stat().st_size for part in (store.root / "part").iterdir()) <= 10


def test_a_server_that_cannot_be_reached(store):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{deaf.getsockname()[1]}/a.deb"
        failure = refused(store, Wanted("0" * 64, "a.deb", 1, (place,)))
    assert str(failure) == f"a.deb cannot be fetched: {place}: cannot connect"
    assert not failure.gone


def test_a_server_that_stops_sending(store, file, mirror, monkeypatch):
    monkeypatch.setattr(stores, "SILENCE_S", 0.5)
    mirror.answers["a.deb"] = [servers.silent]
    failure = refused(store, file())
    assert str(failure).endswith("a.deb: timed out")
    assert not failure.gone


def test_a_file_without_a_url(store):
    failure = refused(store, Wanted("0" * 64, "a.whl", 0, ()))
    assert str(failure) == "a.whl cannot be fetched: no configured archive or index has it"
    assert failure.gone


def test_a_file_is_gone_if_one_server_returns_404_and_the_others_do_not_answer(store, file, mirror):
    unreachable = "http://127.0.0.1:9/x.deb"
    assert refused(store, file(places=(f"{mirror.url}/x.deb", unreachable))).gone
    assert refused(store, file(places=(unreachable, f"{mirror.url}/x.deb"))).gone


def test_a_file_is_not_gone_if_a_server_returns_a_corrupt_one(store, file, mirror):
    """A wrong SHA-256 must never lead to re-resolving."""
    mirror.answers["b.deb"] = [servers.wrong]
    (mirror.folder / "b.deb").write_bytes(data("a.deb"))
    failure = refused(store, file(places=(f"{mirror.url}/x.deb", f"{mirror.url}/b.deb")))
    assert not failure.gone
    assert "its sha256 differs from the lock" in str(failure)


def test_complete_files_are_stored_and_a_corrupt_one_is_named_first(store, file, mirror):
    good, gone, broken = file("good.deb"), file("a-gone.deb"), file("broken.deb")
    mirror.answers = {"a-gone.deb": [servers.status(404)], "broken.deb": [servers.wrong]}
    failure = refused(store, good, gone, broken)
    assert str(failure).startswith("broken.deb (and 1 more) cannot be fetched: ")
    assert not failure.gone
    assert store.has(good.sha256)


def test_a_disk_without_enough_space(store, file):
    huge = Wanted("1" * 64, "huge.deb", 1 << 60, ())
    with pytest.raises(VaultCubeError, match=r"MiB to fetch, \d+ MiB free: make room"):
        store.fetch([huge], "test")


# ---- stored files


@pytest.mark.parametrize("name", ["a.deb", "a-1.0-py3-none-any.whl"])
def test_a_damaged_file_is_reported_and_removed(store, file, tmp_path, name):
    wanted = file(name)
    store.fetch([wanted], "test")
    path = store.path(wanted.sha256)
    flipped = bytearray(path.read_bytes())
    flipped[SIZE // 3] ^= 8
    path.chmod(0o644)
    path.write_bytes(flipped)
    with pytest.raises(VaultCubeError) as caught:
        store.link([(wanted.sha256, name)], tmp_path / "repo")
    assert str(caught.value).startswith(f"{name}: damaged in the store ({path}): removed")
    assert not (tmp_path / "repo" / name).exists()
    assert not store.has(wanted.sha256)
    store.fetch([wanted], "test")
    store.link([(wanted.sha256, name)], tmp_path / "repo")
    assert (tmp_path / "repo" / name).read_bytes() == data(name)


def test_a_missing_file_is_reported_with_the_command_that_fetches_it(store, tmp_path):
    with pytest.raises(VaultCubeError, match=r"a\.deb: not in the store .*: run `salt-call image\.fetch`"):
        store.link([("0" * 64, "a.deb")], tmp_path / "repo")


def test_files_are_copied_from_a_store_on_another_file_system(store, file, tmp_path, monkeypatch):
    wanted = file()
    store.fetch([wanted], "test")

    def link(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(stores.os, "link", link)
    store.link([(wanted.sha256, "a.deb")], tmp_path / "repo")
    assert (tmp_path / "repo/a.deb").read_bytes() == data("a.deb")


# ---- interruption


FETCHER = """\
import sys
from pathlib import Path
from vault_cube.image.store import Store, Wanted
Store(Path(sys.argv[1])).fetch([Wanted(*sys.argv[3:5], int(sys.argv[5]), (sys.argv[2],))], "test")
"""


def test_ctrl_c_interrupts_a_download_that_waits_for_the_server(store, file, mirror):
    wanted = file()
    mirror.answers["a.deb"] = [servers.silent]
    command = [sys.executable, "-c", FETCHER, store.root, wanted.places[0], wanted.sha256, wanted.name, str(SIZE)]
    command[2] = command[2].replace("import sys", "import sys, vault_cube.image.store as s; s.SILENCE_S = 500")
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=Path(__file__).parents[3]) as run:
        while not mirror.asked:
            assert run.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        run.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in run.communicate(timeout=60)[1]
        assert run.wait(60) != 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_leaves_only_a_partial_file_that_the_next_run_resumes(store, file, mirror, sent):
    wanted = file()
    half_sent = threading.Event()

    def half(handler, path, body=True):
        handler.send_response(200)
        handler.send_header("Content-Length", str(SIZE))
        handler.end_headers()
        for start in range(0, SIZE, 1000):
            handler.wfile.write(path.read_bytes()[start : start + 1000])
            if start == 150_000:
                half_sent.set()
            time.sleep(0.3 if half_sent.is_set() else 0)

    mirror.answers["a.deb"] = [half, servers.serve]
    command = [sys.executable, "-c", FETCHER, store.root, wanted.places[0], wanted.sha256, wanted.name, str(SIZE)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=Path(__file__).parents[3]) as run:
        assert half_sent.wait(60)
        run.send_signal(sent)
        run.stderr.read()
        assert run.wait(60) != 0
    assert not store.has(wanted.sha256)
    assert store.fetch([wanted], "test") == SIZE
    assert list((store.root / "part").iterdir()) == []


@pytest.mark.parametrize("served", [True, False], ids=["refused", "silent"])
def test_a_failure_does_not_show_the_password_of_its_mirror(store, mirror, served):
    place = mirror.url.replace("http://", "http://user:s3cret@") if served else "http://user:s3cret@127.0.0.1:9"
    error = refused(store, Wanted("a" * 64, "missing.deb", 10, (f"{place}/missing.deb?token=s3cret",)))
    assert "s3cret" not in str(error)
    assert "http://***@127.0.0.1" in str(error)
