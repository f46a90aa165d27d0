"""One fleet with real daemons, from its installation to a box that leaves; the tests run in their order."""

import json
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import hostile
import pytest
import yaml
from stack import Fleet, request, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("ip") or not shutil.which("nsenter"), reason="needs iproute2 and util-linux"),
]
PROFILES = {"b1": "4x5090", "b2": "2x H100 NVL", "b3": "h200", "b4": None, "b5": "4x5090"}
# the master and salt-api, with all processes (measured: 320 MiB after all requests)
MEMORY_MIB = 700
ALERTS = "/etc/vault-cube/monitoring/alerts.yml"


@pytest.fixture(scope="module")
def fleet(nvml_library):
    fleet = Fleet(nvml_library)
    try:
        for name, profile in PROFILES.items():
            fleet.add(name, profile)
        with ThreadPoolExecutor() as pool:
            list(pool.map(fleet.join, PROFILES))
        for name in PROFILES:
            fleet.accept(name)
        for name in PROFILES:
            fleet.until(lambda name=name: fleet.answers(name), name)
        yield fleet
    finally:
        fleet.end()


def answers(ran):
    """What boxes returned through pepper."""
    return json.loads(ran.stdout)["return"][0]


def test_the_master_s_states_change_nothing_the_second_time(fleet):
    ran = fleet.salt_call("--out=json", "state.apply", "fleet", "test=True")
    states = json.loads(ran.stdout)["local"]
    assert {state["__id__"]: state["changes"] for state in states.values() if state["changes"]} == {}
    assert len(states) > 30


def test_a_box_s_states_change_nothing_the_second_time(fleet):
    states = json.loads(fleet.call("b1", "state.apply", "test=True").stdout)["local"]
    assert {state["__id__"]: state["changes"] for state in states.values() if state["changes"]} == {}


def test_every_box_has_its_own_gpus(fleet):
    rows = {row["box"]: row for row in fleet.runner("fleet.inventory")}
    assert {name: row["problem"] for name, row in rows.items() if row["problem"] and name != "b4"} == {}
    assert rows["b1"]["model"] == rows["b5"]["model"] == "4x NVIDIA GeForce RTX 5090"
    assert "H100" in rows["b2"]["model"]
    assert "H200" in rows["b3"]["model"]
    assert rows["b4"]["model"] is None
    uuids = [uuid for row in rows.values() for uuid in row["uuids"]]
    assert len(uuids) == len(set(uuids)) > 8


@pytest.fixture(scope="module")
def stranger(fleet):
    """The name of a box that is not accepted."""
    fleet.add("b6")
    return "b6"


def test_a_wrong_fingerprint_is_not_accepted(fleet, stranger):
    fleet.join("b6")
    until(lambda: "b6" in fleet.runner("fleet.keys")["waiting"])
    result = fleet.runner("fleet.accept", "b6", ":".join(32 * ["00"]))
    assert "not that of the box" in result["error"]
    assert fleet.status == 1
    assert "b6" in fleet.runner("fleet.keys")["waiting"]
    fleet.boxes["b6"].kill("vault-cube-fleet")
    shutil.rmtree(fleet.boxes["b6"].path("/etc/salt/pki/fleet"))
    assert fleet.runner("fleet.remove", "b6") == "b6 is removed"


def test_a_box_trusts_no_other_master(fleet, stranger):
    name = stranger
    fleet.join(name, fingerprint=":".join(32 * ["ab"]))
    log = fleet.boxes[name].path("/var/log/salt/fleet")
    # the master shows its key when it has accepted that of the box: so would one that is not the fleet's
    fleet.accept(name)
    fleet.until(lambda: "Does not match the authenticating master's key" in log.read_text(), name)
    assert not fleet.answers(name)
    assert "runs" not in log.read_text()
    fleet.boxes[name].kill("vault-cube-fleet")
    assert fleet.runner("fleet.remove", name) == f"{name} is removed"


PEPPER = {
    "all well": (("vera", "b[12]", "test.ping"), 0),
    "one box is unfit": (("vera", "b[15]", "gpu.health"), 2),
    "a function that the role may not run": (("vera", "b1", "state.apply"), 1),
    "an unknown function": (("anna", "b1", "gpu.nonsense"), 1),
    "no such box": (("vera", "b99", "test.ping"), 2),
    "refused by the box": (("vera", "b1", "layer.check", "nonsense"), 13),
    "a runner that fails": (("otto", "--client=runner", "fleet.rollout", "commit=ccccccc"), 1),
    "a runner that the role may not run": (("vera", "--client=runner", "fleet.rollout", "commit=ccccccc"), 1),
    "in no role": (("nora", "b1", "test.ping"), 1),
}


@pytest.mark.parametrize("case", PEPPER)
def test_pepper_s_exit_codes(fleet, case):
    (who, *words), code = PEPPER[case]
    fleet.gpus("b5", lost=1)
    ran = fleet.pepper(who, *words)
    fleet.gpus("b5")
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


def test_pepper_sends_no_password_to_a_server_with_another_certificate(fleet):
    other = fleet.laptop.path("/root/other.crt")
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
    ]
    subprocess.run([*words, "-keyout", "/dev/null", "-out", str(other)], check=True, capture_output=True)
    ran = fleet.pepper("vera", "b1", "test.ping", SALTAPI_CA="/root/other.crt")
    assert ran.returncode == 1
    assert "certificate" in (ran.stdout + ran.stderr).lower()


def test_roles(fleet):
    for who, function, status in (
        ("vera", "state.apply", 401), ("otto", "state.apply", 200), ("otto", "saltutil.running", 401),
        ("anna", "saltutil.running", 200), ("anna", "cmd.run", 401),
    ):  # fmt: skip
        answer = fleet.ask(request(json=hostile.run(function, tgt="b4"), token=fleet.token(who)))
        assert answer["status"] == status, (who, function, answer)


def test_the_audit_log_names_who_did_what(fleet):
    fleet.pepper("otto", "b4", "layer.check", "validation")
    events = [
        json.loads(line) for line in fleet.master.path("/var/log/vault-cube/fleet/audit.jsonl").read_text().splitlines()
    ]
    jobs = [(event["data"].get("user"), event["data"].get("fun")) for event in events]
    assert ("otto", "layer.check") in jobs
    assert ("vera", "gpu.health") in jobs
    passwords = [word for word in fleet.passwords.values() if word in json.dumps(events)]
    assert not passwords


@pytest.fixture(scope="module")
def tokens(fleet):
    return {who: fleet.token(who) for who in ("vera", "otto", "anna")}


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: f"{case.who or 'nobody'}: {case.name}")
def test_a_wrong_request_executes_nothing(fleet, tokens, case):
    if case.path == "/login":
        time.sleep(0.25)  # the limit of logins has a test of its own
    token = {"X-Auth-Token": tokens[case.who]} if case.who else {}
    answer = fleet.ask(
        request(case.path, json=case.json, data=case.data, method=case.method) | {"headers": {**case.headers, **token}}
    )
    assert answer["status"] in case.status, answer
    assert "Traceback" not in answer["text"]
    if case.box is not None and answer["status"] == 200:
        assert case.box in answer["text"]
    machines = [fleet.master, *fleet.boxes.values()]
    assert not [machine.name for machine in machines if machine.path(hostile.CANARY).exists()]


def test_after_all_wrong_requests_the_service_is_up_and_small(fleet):
    assert fleet.pepper("vera", "b1", "test.ping").returncode == 0
    names = ("vault-cube-fleet-master", "vault-cube-fleet-api")
    memory = {name: fleet.master.memory_mib(name) for name in names}
    assert sum(memory.values()) < MEMORY_MIB, memory


def test_a_token_is_void_after_the_logout(fleet):
    token = fleet.token("vera")
    assert fleet.ask(request(json=hostile.low(), token=token))["status"] == 200
    assert fleet.ask(request("/logout", token=token))["status"] == 200
    assert fleet.ask(request(json=hostile.low(), token=token))["status"] == 401


def test_a_locked_account_cannot_log_in(fleet):
    login = request("/login", json={"username": "vera", "password": fleet.passwords["vera"], "eauth": "pam"})
    fleet.master.run("usermod", "--expiredate", "1", "vera")
    assert fleet.ask(login)["status"] == 401
    fleet.master.run("usermod", "--expiredate", "", "vera")
    assert fleet.ask(login)["status"] == 200


def test_guessing_passwords_is_slowed_down(fleet):
    statuses = [fleet.ask(request("/login", json=hostile.login(username="nora")))["status"] for _ in range(1)]
    words = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} ", "--cacert", "/root/ca.crt", "--parallel"]
    body = json.dumps(hostile.login(username="nora"))
    urls = ["https://10.77.0.1:8443/login"] * 40
    ran = fleet.laptop.run(*words, "-H", "Content-Type: application/json", "-d", body, *urls, ok=False)
    assert statuses == [401]
    assert "429" in ran.stdout
    time.sleep(6)


# what root on a box may try with the box's own key: function, arguments, and what the master answers
ROGUE = {
    "a command on another box": (("publish.publish", "b2", "cmd.run", f"touch {hostile.CANARY}"), {}),
    "a runner": (("publish.runner", "fleet.keys"), None),
    "a file for the master": (("cp.push", "/etc/hostname"), False),
    "a pillar that accepts keys": (("pillar.ext", '{"virtkey": "x"}'), {"ext_pillar_opts": {}}),
    "a pillar that runs a program": (("pillar.ext", '{"libvirt": {}}'), {"ext_pillar_opts": {}}),
    "a file outside of the releases": (("cp.get_file_str", "salt://../../pki/master.pem"), False),
    "a file of the master": (("cp.get_file_str", "salt:///etc/passwd"), False),
}


@pytest.fixture(scope="module")
def rogue(fleet):
    """The folder of a configuration with which a box uses its key, but none of its own limits."""
    box = fleet.boxes["b4"]
    text = box.path("/etc/salt/fleet/minion").read_text()
    for name in ("whitelist_modules", "module_executors", "disable_executors", "executor_dirs", "include"):
        text = re.sub(rf"(?m)^ *{name}:.*\n(?: +[\w, ]+\]\n)?", "", text)
    box.path("/tmp/rogue").mkdir(exist_ok=True)
    box.path("/tmp/rogue/minion").write_text(text)
    return "/tmp/rogue"


@pytest.mark.parametrize("case", ROGUE)
def test_a_box_without_its_own_limits_gets_nothing_from_the_master(fleet, rogue, case):
    words, expected = ROGUE[case]
    salt_call = ("/opt/vault-cube/salt/bin/salt-call", "-c", rogue, "--out=json", "--log-level=quiet")
    ran = fleet.boxes["b4"].run(*salt_call, *words, ok=False)
    answer = json.loads(ran.stdout)["local"] if ran.stdout.strip() else None
    assert (answer or None) == (expected or None), ran.stdout + ran.stderr
    assert not [name for name, box in fleet.boxes.items() if box.path(hostile.CANARY).exists()]
    master = fleet.master.path("/var/cache/vault-cube/fleet/minions/b4/files")
    assert not master.exists()


def change(fleet, above):
    """A release that differs from the one before in a file of every box. Returns its commit."""
    file = fleet.checkout / "pillar/box.sls"
    text = file.read_text()
    current = next(line for line in text.splitlines() if "gpu_warm:" in line)
    file.write_text(text.replace(current, f"      gpu_warm: {{above: {above}, minutes: 5}}"))
    fleet.commit(f"warn at {above} °C")
    return fleet.release()


def thresholds(fleet):
    """The warning threshold that is in each box's alert rules."""
    found = {}
    for name in PROFILES:
        text = fleet.boxes[name].path(ALERTS).read_text()
        found[name] = int(re.search(r"alert: GpuWarm\n\s+expr: .*> (\d+)", text)[1])
    return found


def rollout(fleet, commit):
    result = fleet.runner("fleet.rollout", commit)
    assert set(result) >= {"result", "boxes"}, result
    return result


def test_a_rollout_stops_after_the_batch_with_an_unfit_box_and_resumes(fleet):
    commit = change(fleet, 71)
    fleet.gpus("b3", "h200", lost=0)
    result = rollout(fleet, commit[:9])
    assert fleet.status == 1
    assert result["result"] == "stopped"
    assert "batch 2 of 3 (b2, b3): check the GPUs" in result["stopped"]["step"]
    assert list(result["stopped"]["reasons"]) == ["b3"]
    assert result["boxes"]["b1"] == {"commit": commit, "applied": True, "accepted": True, "previous": "image"}
    assert result["boxes"]["b4"]["commit"] == "image"
    assert thresholds(fleet) == {"b1": 71, "b2": 71, "b3": 71, "b4": 75, "b5": 75}
    fleet.gpus("b3", "h200")
    result = rollout(fleet, commit)
    assert (fleet.status, result["result"]) == (0, "done")
    assert set(thresholds(fleet).values()) == {71}


def applied(fleet, name):
    """How many times a box applied its states, from the log of its gate: finished jobs of checkout.apply."""
    log = fleet.boxes[name].path("/var/log/salt/fleet").read_text()
    return log.count("runs checkout.apply")


def version(fleet, name):
    """The release that a box has, asked on the box itself."""
    return json.loads(fleet.call(name, "checkout.version").stdout)["local"]


def test_a_box_that_is_cut_off_while_it_applies_stops_the_rollout_and_goes_on_later(fleet):
    commit = change(fleet, 72)
    before = applied(fleet, "b4")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(rollout, fleet, commit)
        until(lambda: applied(fleet, "b4") > before, limit=600)
        fleet.network.cut(fleet.boxes["b4"])
        # the box finishes what it has begun, and nobody hears of it
        until(lambda: version(fleet, "b4")["applied"], limit=180)
        result = running.result()
    assert result["result"] == "stopped"
    assert result["stopped"]["reasons"] == {"b4": "does not answer"}
    assert result["boxes"]["b4"] == "does not answer"
    assert version(fleet, "b4") == {"commit": commit, "applied": True, "accepted": False, "previous": previous(result)}
    fleet.network.mend(fleet.boxes["b4"])
    started = time.monotonic()
    until(lambda: fleet.answers("b4"), limit=120)
    print(f"answers {time.monotonic() - started:.0f} s after the cable is plugged in again")
    assert rollout(fleet, commit)["result"] == "done"
    assert set(thresholds(fleet).values()) == {72}


def previous(result):
    """The release before the one of a rollout, as the canary has it."""
    return result["boxes"]["b1"]["previous"]


def test_after_the_master_was_killed_nothing_is_lost_and_nothing_applied_twice(fleet):
    commit = change(fleet, 73)
    before = {name: applied(fleet, name) for name in PROFILES}
    words = ("/usr/local/sbin/fleet-salt-run", "--out=json", "fleet.rollout", commit)
    fleet.master.start("rollout", *words)
    until(lambda: applied(fleet, "b2") > before["b2"])
    for daemon in ("rollout", "vault-cube-fleet-master"):
        fleet.master.kill(daemon)
    fleet.start_master()
    until(lambda: all(fleet.answers(name) for name in PROFILES), limit=180)
    assert version(fleet, "b1")["accepted"]
    # boxes that had begun have finished without a master
    begun = [name for name in PROFILES if applied(fleet, name) > before[name]]
    until(lambda: all(version(fleet, name)["applied"] for name in begun), limit=180)
    files = {name: fleet.boxes[name].path(ALERTS).stat().st_mtime_ns for name in begun}
    assert rollout(fleet, commit)["result"] == "done"
    assert set(thresholds(fleet).values()) == {73}
    assert applied(fleet, "b1") - before["b1"] == 1
    assert all(applied(fleet, name) - before[name] <= 2 for name in PROFILES)
    assert {name: fleet.boxes[name].path(ALERTS).stat().st_mtime_ns for name in begun} == files
    until(lambda: fleet.pepper("vera", "b1", "test.ping").returncode == 0)


def test_drift_is_found_and_repaired(fleet):
    rules = fleet.boxes["b2"].path(ALERTS)
    rules.write_text("groups: []\n")
    result = fleet.runner("fleet.drift")
    assert fleet.status == 2
    assert result["states"] == {"validation.alerts: alerts have the pillar's thresholds": ["b2"]}
    assert (result["unmanaged"], result["unknown"], len(result["same"])) == ({}, {}, 4)
    result = fleet.runner("fleet.repair")
    assert (fleet.status, result["failed"], result["after"]["states"]) == (0, {}, {})
    assert "GpuWarm" in rules.read_text()


def test_boxes_without_frameworks_do_not_train_together(fleet):
    wrong = fleet.runner("fleet.benchmark", "together=b1,b9", "rendezvous=10.77.1.2")
    assert "b9: no such box" in wrong["error"]
    result = fleet.runner("fleet.benchmark", "together=b1,b4", f"rendezvous={fleet.boxes['b1'].address}")
    assert fleet.status == 2
    assert (result["verdicts"], result["numbers"]) == ({"b1": "fault", "b4": "fault"}, {})
    assert any("is missing" in note for note in result["notes"]), result


def test_the_way_back(fleet):
    commit = version(fleet, "b1")["commit"]
    result = fleet.runner("fleet.rollback", commit)
    assert result["result"] == "done", result
    assert set(thresholds(fleet).values()) == {72}


def test_reports_for_people_and_programs(fleet):
    fleet.gpus("b5", lost=2)
    files = fleet.runner("fleet.report")
    fleet.gpus("b5")
    html = fleet.master.path(files[0]).read_text()
    assert "5 boxes on" in html
    assert "simulated" in html
    assert 'class="verdict fault"' in html
    ran = fleet.master.run("/usr/local/sbin/fleet-salt-run", "--out=newline_values_only", "fleet.inventory", "csv=True")
    assert ran.stdout.splitlines()[0].startswith("box,target,gpus,model")
    assert len(ran.stdout.splitlines()) == 6


def test_a_box_that_leaves_keeps_nothing_of_the_fleet(fleet):
    box = fleet.boxes["b5"]
    box.kill("vault-cube-fleet", "TERM")
    box.path("/opt/vault-cube/checkout/pillar/local.sls").write_text(yaml.safe_dump({}))
    fleet.call("b5", "state.apply", "validation.fleet")
    left = [
        "/etc/salt/fleet",
        "/etc/salt/pki/fleet",
        "/opt/vault-cube/fleet",
        "/etc/systemd/system/vault-cube-fleet.service",
    ]
    assert [path for path in left if box.path(path).exists()] == []
    assert fleet.runner("fleet.remove", "b5") == "b5 is removed"
    assert "b5" not in fleet.runner("fleet.status")
