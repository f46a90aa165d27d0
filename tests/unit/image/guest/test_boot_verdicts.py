"""Verdicts of the boot test on good and bad answers of a guest. The guest here is a table of answers."""

import json
import os
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from vault_cube import process, verdicts
from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import boot_check, cases
from vault_cube.image.guest.cases import Expected, Trial, Wrong
from vault_cube.image.guest.machine import StalledError

EXPECTED = Expected("operator", frozenset({22}), 22, 5)


class Answers:
    """A guest with one answer per command, selected by the beginning of the command."""

    def __init__(self, answers):
        self.answers = answers
        self.outside = []
        self.seed = SimpleNamespace(key="/key", user="operator")

    def ssh(self, remote, *, timeout_s=120, check=True, stdin=None):
        stdout = next(
            (text for start, text in self.answers.items() if remote.removeprefix("sudo -n ").startswith(start)), None
        )
        if stdout is None:
            raise VaultCubeError(f"in the guest: `{remote}` failed with status 127")
        return subprocess.CompletedProcess(remote, 0, stdout, "")


def trial(answers):
    return Trial(Answers(answers), EXPECTED)


def test_a_running_system_without_failed_units_passes():
    answers = {"systemctl is-system-running": "running\n", "systemctl list-units": ""}
    assert cases.system_is_running(trial(answers)) == "running, no failed unit"


@pytest.mark.parametrize(("state", "failed"), [
    ("degraded\n", "docker.service loaded failed failed Docker\n"),
    ("starting\n", ""),
    ("running\n", "late.service loaded failed failed Late\n"),
])  # fmt: skip
def test_a_system_in_another_state_or_with_failed_units_fails(state, failed):
    with pytest.raises(Wrong, match=state.strip()) as wrong:
        cases.system_is_running(trial({"systemctl is-system-running": state, "systemctl list-units": failed}))
    assert (failed.split() or ["none"])[0] in str(wrong.value)


CYCLES = {
    # systemd 252 and 257
    "sockets.target: Found ordering cycle on sockets.target/start": "sockets.target",
    "ssh-host-keys.service: Found ordering cycle: basic.target/start after ssh.socket/start": "ssh-host-keys.service",
    "basic.target: Job ssh.socket/start deleted to break ordering cycle starting with basic.target/start": "ssh.socket",
    "Failed to isolate default target: Transaction order is cyclic. See system logs for details.": "cyclic",
}


def test_a_boot_without_a_cycle_passes():
    journal = "Reached target sockets.target - Socket Units.\nStarted ssh-host-keys.service.\n"
    assert cases.no_unit_waits_for_itself(trial({"journalctl": journal})) == "no ordering cycle in the boot's journal"


@pytest.mark.parametrize(("line", "named"), CYCLES.items())
def test_a_boot_with_a_broken_ordering_cycle_fails(line, named):
    journal = f"Reached target sockets.target - Socket Units.\n{line}\nStarted docker.service.\n"
    with pytest.raises(Wrong, match=named):
        cases.no_unit_waits_for_itself(trial({"journalctl": journal}))


def test_an_empty_journal_fails():
    with pytest.raises(Wrong, match="journal is empty"):
        cases.no_unit_waits_for_itself(trial({"journalctl": ""}))


@pytest.mark.parametrize("status", [
    {"status": "error", "errors": ["locale"]},
    {"status": "done", "errors": ["late"]},
    {"status": "running", "errors": []},
])  # fmt: skip
def test_cloud_init_with_errors_or_unfinished_fails(status):
    with pytest.raises(Wrong):
        cases.cloud_init_is_done(trial({"cloud-init": json.dumps(status)}))


def identity(machine, key_time):
    lines = [str(1000), machine, "1005 /etc/machine-id", f"{key_time} /etc/ssh/ssh_host_ed25519_key"]
    return trial({"sh -c": "\n".join(lines)})


def test_an_identity_made_at_this_boot_passes():
    assert "1 host keys" in cases.identity_is_its_own(identity("a" * 32, 1010))


@pytest.mark.parametrize(("machine", "key_time"), [("uninitialized", 1010), ("a" * 32, 500), ("", 1010)])
def test_an_identity_from_the_image_fails(machine, key_time):
    with pytest.raises(Wrong):
        cases.identity_is_its_own(identity(machine, key_time))


@pytest.mark.parametrize(("gib", "passes"), [(7.4, True), (2.0, False)])
def test_the_root_file_system_must_fill_the_disk(gib, passes):
    answers = {"findmnt": "/dev/vda2\n", "lsblk": f"{8 << 30}\n", "df": f"1B-blocks\n{int(gib * (1 << 30))}\n"}
    if passes:
        assert "MiB of a disk of 8192 MiB" in cases.root_fills_the_disk(trial(answers))
    else:
        with pytest.raises(Wrong, match="2048 MiB of a disk of 8192 MiB"):
            cases.root_fills_the_disk(trial(answers))


def attempt(monkeypatch, status, stderr):
    calls = []

    def login(self, source, user, *options):
        calls.append((source, user, options))
        return subprocess.CompletedProcess([], status, "", stderr)

    monkeypatch.setattr(Trial, "login", login)
    return calls


@pytest.mark.parametrize(("status", "stderr"), [
    (0, ""),
    (255, "operator@10.0.2.15: Permission denied (publickey,password)."),
    (255, "ssh: connect to host 10.0.2.15 port 22: Connection refused"),
])  # fmt: skip
def test_any_login_method_besides_a_key_fails(monkeypatch, status, stderr):
    attempt(monkeypatch, status, stderr)
    with pytest.raises(Wrong):
        cases.passwords_are_refused(trial({}))


def test_public_key_as_the_only_method_passes(monkeypatch):
    attempt(monkeypatch, 255, "operator@10.0.2.15: Permission denied (publickey).")
    assert "publickey" in cases.passwords_are_refused(trial({}))


def test_the_root_login_is_tried_with_the_users_key(monkeypatch):
    calls = attempt(monkeypatch, 255, "root@10.0.2.15: Permission denied (publickey).")
    cases.root_is_refused(trial({}))
    assert calls[0][1:] == ("root", ("-i", "/key"))
    attempt(monkeypatch, 0, "")
    with pytest.raises(Wrong, match="login succeeded"):
        cases.root_is_refused(trial({}))


def states(*results):
    return json.dumps({"local": {
        str(number): {"__id__": f"state {number}", "comment": "comment", "result": result, "changes": changed}
        for number, (result, changed) in enumerate(results)
    }})  # fmt: skip


def test_states_without_changes_pass():
    assert cases.states_change_nothing(trial({"salt-call": states((True, {}), (True, {}))})) == "2 states, no change"


@pytest.mark.parametrize("answer", [
    states((True, {}), (None, {"new": 1})),
    states((None, {})),
    states((False, {})),
    states((True, {"old": 1})),
    states(),
    json.dumps({"local": ["Rendering SLS base failed"]}),
    "",
    "Traceback",
])  # fmt: skip
def test_drift_failed_states_and_missing_output_fail(answer):
    with pytest.raises(Wrong):
        cases.states_change_nothing(trial({"salt-call": answer}))


class Jail(Answers):
    """A guest whose jail bans an address after a given number of failures."""

    def __init__(self, bans_after):
        super().__init__({})
        self.bans_after, self.failures, self.logins = bans_after, 0, []

    def ssh(self, remote, *, timeout_s=120, check=True, stdin=None):
        banned = "10.0.2.104" if self.failures >= self.bans_after else ""
        return subprocess.CompletedProcess(remote, 0, f"   `- Banned IP list:\t{banned}\n", "")


def jail(monkeypatch, bans_after, refuses=True):
    box = Jail(bans_after)

    def login(self, source, user, *options):
        if "PubkeyAuthentication=no" in options:
            box.failures += 1
            return subprocess.CompletedProcess([], 255, "", "Permission denied (publickey).")
        barred = refuses and source == "10.0.2.104"
        return subprocess.CompletedProcess([], 255 if barred else 0, "", "Connection refused" if barred else "")

    monkeypatch.setattr(Trial, "login", login)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(cases.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    monkeypatch.setattr(cases.time, "monotonic", lambda: clock.now)
    return Trial(box, EXPECTED)


def test_a_ban_after_the_configured_failures_passes(monkeypatch):
    assert "banned after 5 failures" in cases.fail2ban_bans(jail(monkeypatch, 5))


@pytest.mark.parametrize("missed", [1, 2])
def test_a_failure_that_fail2ban_missed_is_made_again(monkeypatch, missed):
    assert f"banned after {5 + missed} failures" in cases.fail2ban_bans(jail(monkeypatch, 5 + missed))


def test_a_login_that_is_banned_while_it_waits_for_an_answer_is_a_refused_one(monkeypatch, tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 60\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(cases, "LOGIN_S", 0.2)
    there = trial({})
    there.box.outside = ()
    assert there.login("10.0.2.104", "ada")[::2] == (255, "timed out after 0.2 s without an answer")


@pytest.mark.parametrize(("wrong", "login"), [
    (cases.key_opens_ssh, (255, "timed out after 90 s without an answer")),
    (cases.passwords_are_refused, (255, "timed out after 90 s without an answer")),
    (cases.root_is_refused, (255, "timed out after 90 s without an answer")),
])  # fmt: skip
def test_a_login_without_an_answer_proves_nothing(monkeypatch, wrong, login):
    attempt(monkeypatch, *login)
    with pytest.raises(Wrong, match="timed out"):
        wrong(trial({}))


def test_logins_without_an_answer_may_count_for_the_ban(monkeypatch):
    hung = iter([False, True, True, True])
    box = jail(monkeypatch, 5)
    answered = Trial.login

    def login(self, source, user, *options):
        done = answered(self, source, user, *options)
        asked = "PubkeyAuthentication=no" in options
        return (
            process.Result(255, "", "timed out after 90 s without an answer") if asked and next(hung, False) else done
        )

    monkeypatch.setattr(Trial, "login", login)
    assert "banned after 2 failures" in cases.fail2ban_bans(box)


@pytest.mark.parametrize(("bans_after", "refuses", "message"), [
    (3, True, "banned after"),
    (10**6, True, "no ban within 420 s after 7 refused logins"),
    (8, True, "no ban within"),
    (5, False, "can still log in"),
])  # fmt: skip
def test_an_early_a_missing_or_an_ineffective_ban_fails(monkeypatch, bans_after, refuses, message):
    with pytest.raises(Wrong, match=message):
        cases.fail2ban_bans(jail(monkeypatch, bans_after, refuses))


def test_one_failed_check_does_not_hide_the_others():
    def good(trial):
        return "fine"

    def bad(trial):
        raise Wrong("not fine")

    def lost(trial):
        raise VaultCubeError("no answer")

    def odd(trial):
        raise KeyError("local")

    judged = boot_check.judge(trial({}), [good, bad, lost, odd, good])
    assert [verdict.bad for verdict in judged] == [False, True, True, True, False]
    assert judged[1].evidence == "not fine"
    assert "KeyError" in judged[3].evidence
    assert [verdict.check for verdict in judged] == ["good", "bad", "lost", "odd", "good"]
    assert all(verdict.seconds is not None for verdict in judged)


def test_the_check_that_locks_an_address_out_comes_last():
    assert boot_check.CHECKS[-1] is cases.fail2ban_bans


@pytest.mark.parametrize("passed", [True, False])
def test_the_verdicts_are_written_and_the_error_names_failed_checks(monkeypatch, tmp_path, passed):
    judged = [verdicts.ok("ssh", check="first boot"), verdicts.verdict(passed, "got in", check="root is refused")]
    monkeypatch.setattr(boot_check, "boot_test", lambda *_: judged)
    monkeypatch.setattr(boot_check.tools, "tree", lambda space: tmp_path)
    monkeypatch.setattr(boot_check.Qemu, "of_tree", lambda tree: None)
    monkeypatch.setattr(boot_check.Expected, "of", lambda settings: EXPECTED)
    space = SimpleNamespace(settings=None, build=tmp_path / "build", logs=tmp_path / "logs")
    if passed:
        assert boot_check.prove(space, tmp_path / "box.qcow2").verdicts == judged
    else:
        with pytest.raises(
            VaultCubeError, match=r"^box\.qcow2 failed its boot test: root is refused \(got in\); see the serial"
        ):
            boot_check.prove(space, tmp_path / "box.qcow2")
    report = json.loads((tmp_path / "build/boot-test.json").read_text())
    statuses = {check["check"]: check["status"] for check in report["checks"]}
    assert statuses == {"first boot": "ok", "root is refused": "ok" if passed else "fault"}


def started(monkeypatch, tmp_path, *errors):
    """Boot guests of which each raises an error, or answers (None). Returns the verdict and the number of starts."""
    starts = []

    @contextmanager
    def guest(*_, console, **__):
        console.write_text(f"start {len(starts)}")
        error = errors[len(starts)]
        starts.append(error)

        def wait():
            if error:
                raise error

        yield SimpleNamespace(wait_for_ssh=wait, accelerator="tcg")

    monkeypatch.setattr(boot_check, "guest", guest)
    with boot_check.first_boot(tmp_path, None, None, None, tmp_path / "console.log") as (_, verdict):
        return verdict, len(starts)


def test_a_guest_that_answers_is_started_once(monkeypatch, tmp_path):
    verdict, starts = started(monkeypatch, tmp_path, None)
    assert (verdict.bad, verdict.evidence, starts) == (False, "ssh answers (tcg)", 1)


def test_a_guest_that_the_emulator_stalled_is_started_again_and_its_console_is_kept(monkeypatch, tmp_path):
    verdict, starts = started(monkeypatch, tmp_path, StalledError("stalled"), None)
    assert (verdict.bad, starts) == (False, 2)
    assert "start 2: QEMU stalled the guest before" in verdict.evidence
    assert (tmp_path / "console.log.1").read_text() == "start 0"


@pytest.mark.parametrize(
    ("errors", "starts"),
    [((VaultCubeError("QEMU ended"), None), 1), ((StalledError("stalled"), StalledError("stalled again")), 2)],
)
def test_a_guest_that_does_not_boot_is_a_fault(monkeypatch, tmp_path, errors, starts):
    verdict, count = started(monkeypatch, tmp_path, *errors)
    assert (verdict.bad, verdict.evidence, count) == (True, str(errors[starts - 1]), starts)
