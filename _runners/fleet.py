"""The fleet on its master: keys, releases, rollouts, inventory, drift, benchmarks, report."""

import time
from pathlib import Path

import salt.client
import salt.key
import salt.utils.crypt

from vault_cube.errors import VaultCubeError
from vault_cube.fleet import boxes, releases
from vault_cube.fleet import rollout as plans
from vault_cube.fleet.report import page
from vault_cube.fleet.runners import runner


@runner
def fingerprint():
    """
    Show the fingerprint of the master's key: the value of the pillar key ``fleet:master_key`` of all boxes.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.fingerprint
    """
    return salt.utils.crypt.pem_finger(str(Path(__opts__["pki_dir"], "master.pub")))


@runner
def keys():
    """
    List the boxes by the state of their keys; waiting ones with their fingerprints.

    Returns accepted, waiting (box: fingerprint), rejected, denied (a second key for the name of an accepted box).

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.keys
    """
    listed = _keys()
    with salt.key.get_key(__opts__) as store:
        waiting = {box: releases.fingerprint(store.key_str(box)["minions_pre"][box]) for box in listed["minions_pre"]}
    return {
        "accepted": listed["minions"], "waiting": waiting,
        "rejected": listed["minions_rejected"], "denied": listed["minions_denied"],
    }  # fmt: skip


@runner
def accept(box, fingerprint):
    """
    Accept a box's key if it has the fingerprint that the box itself shows.

    On the box: ``salt-call --local fleet.fingerprint``. `salt-key -F` shows another hash of the same key.

    box
        name of the box

    fingerprint
        64 hexadecimal digits with colons

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.accept b1 07:29:7a:…
    """
    with salt.key.get_key(__opts__) as store:
        if box not in store.list_keys()["minions_pre"]:
            raise VaultCubeError(f"{str(box)[:80]}: no key with this name waits: see `fleet.keys`")
        actual = releases.fingerprint(store.key_str(box)["minions_pre"][box])
        if str(fingerprint).lower() != actual:
            raise VaultCubeError(f"{box}: the key that waits is not that of the box: its fingerprint is {actual}")
        store.accept(match_dict={"minions_pre": [box]})
    return f"{box} is accepted"


@runner
def remove(box):
    """
    Remove a box's key: the master no longer takes its results, and it gets no more jobs.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.remove b1
    """
    listed = _keys()
    kinds = [kind for kind, names in listed.items() if box in names]
    if not kinds:
        raise VaultCubeError(f"{str(box)[:80]}: no key with this name: see `fleet.keys`")
    with salt.key.get_key(__opts__) as store:
        store.delete_key(match_dict={kind: [box] for kind in kinds}, revoke_auth=False)
    return f"{box} is removed"


@runner
def status():
    """
    Show which release each box has, and whether it was applied and accepted there, or that it does not answer.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.status
    """
    return _versions()


@runner
def rollout(commit, batch=None):
    """
    Install a release on all boxes: the canaries first, then batch by batch, and stop at the first failure.

    Each batch installs the release, applies it, and has to pass ``layer.check`` of ``fleet:server:checks`` and
    ``gpu.health`` before the next one starts. Boxes that have passed are left out, so that the same command continues
    a rollout.

    commit
        a release of ``make fleet-release``, at least 7 characters

    batch
        boxes at the same time; default: pillar ``fleet:server:batch``

    Returns result (done or stopped), stopped (step, and a reason per box), boxes (as ``fleet.status``), seconds. Exit
    code 1 if it stopped.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.rollout 1a2b3c4
    """
    folder = Path(_settings()["home"], "files/releases")
    full = plans.checked_commit(commit, [file.stem for file in folder.glob("*.tar")])
    versions = _ask(_boxes(), "checkout.version")
    planned = plans.batches(versions, plans.done(versions, full), _settings()["canaries"], _size(batch))
    steps = plans.install(planned, full, releases.sha256(folder / f"{full}.tar"), _settings()["checks"])
    return _orchestrate(steps)


@runner
def rollback(commit, batch=None):
    """
    Put the previous release back on all boxes that have a release, apply it and check the boxes.

    commit
        the release to leave, at least 7 characters; boxes that do not have it are left out

    batch
        boxes at the same time; default: pillar ``fleet:server:batch``

    Returns the fields of ``fleet.rollout``.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.rollback 1a2b3c4
    """
    versions = _ask(_boxes(), "checkout.version")
    commits = {box: answer["ret"]["commit"] for box, answer in versions.items() if isinstance(answer["ret"], dict)}
    full = plans.checked_commit(commit, set(commits.values()))
    leaving = [box for box, release in commits.items() if release == full]
    planned = plans.batches(leaving, [], _settings()["canaries"], _size(batch))
    return _orchestrate(plans.back(planned, _settings()["checks"]))


@runner
def inventory(csv=False):
    """
    List all boxes: GPUs, driver, last health, last benchmark, or what is wrong.

    csv
        return CSV; `--out=newline_values_only` prints it

    CLI Example:

    .. code-block:: bash

        fleet-salt-run --out=json fleet.inventory
        fleet-salt-run --out=newline_values_only fleet.inventory csv=True
    """
    rows = boxes.inventory(_ask(_boxes(), "grains.item", boxes.GRAINS))
    return boxes.as_csv(rows) if csv else rows


@runner
def drift():
    """
    Show which boxes differ from their states and images, and in what. Exit code 2 if one does, 1 if one cannot be
    compared.

    Returns states (a state that would repair the difference -> boxes), unmanaged (what differs from the image and no
    state repairs -> boxes), same (boxes without drift), unknown (box -> reason).

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.drift
    """
    result = boxes.drift(_ask(_boxes(), "drift.report"))
    __context__["retcode"] = 1 if result["unknown"] else 2 if result["states"] or result["unmanaged"] else 0
    return result


@runner
def repair():
    """
    Apply the states on the boxes with drift, batch by batch, and check for drift again.

    It does not touch what no state manages: `drift.explain` on the box says what such a path belongs to.

    Returns before and after (as ``fleet.drift``), failed (box -> reason). Exit code 1 if drift remains.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.repair
    """
    before = boxes.drift(_ask(_boxes(), "drift.report"))
    drifted = {box for names in before["states"].values() for box in names}
    failed = {}
    for batch in plans.batches(drifted, [], _settings()["canaries"], _settings()["batch"]):
        answers = _ask(batch, "state.apply")
        failed.update({box: plans.reason(answer["ret"]) for box, answer in answers.items() if answer["retcode"]})
        if failed:
            break
    after = boxes.drift(_ask(_boxes(), "drift.report")) if drifted else before
    __context__["retcode"] = 1 if failed or after["states"] or after["unmanaged"] or after["unknown"] else 0
    return {"before": before, "after": after, "failed": failed}


@runner
def benchmark(suite=None, quick=True, together=None, rendezvous=None):
    """
    Run ``gpu.benchmark`` on all boxes at the same time, and name those that are slower than boxes with the same GPUs.

    With `together`, some boxes train one model instead (suite ddp), over the network between them.

    suite
        name of a suite, or several separated by commas; default: all

    quick
        measure for a shorter time

    together
        names of at least two boxes, separated by commas, whose firewalls admit each other

    rendezvous
        name or IPv4 address of one of these boxes, in the network that they share

    Returns verdicts (box -> verdict or reason), and slow: a line per box and number; with `together` numbers and notes.
    Exit code 2 if a box is slow or has a fault.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.benchmark ddp
        fleet-salt-run fleet.benchmark together=box-1,box-2 rendezvous=192.0.2.11
    """
    options = {"__kwarg__": True, "quick": bool(quick), **({"suite": suite} if suite else {})}
    if together or rendezvous:
        names = boxes.chosen(together, _boxes())
        options |= {"suite": suite or "ddp", "boxes": len(names), "rendezvous": str(rendezvous or "")}
        result = boxes.trained(_ask(names, "gpu.benchmark", [options]))
        __context__["retcode"] = 0 if result["numbers"] else 2
        return result
    answers = _ask(_boxes(), "gpu.benchmark", [options])
    results = {box: answer["ret"] for box, answer in answers.items() if isinstance(answer["ret"], dict)}
    verdicts = {box: boxes.verdict(answer["ret"]) for box, answer in answers.items()}
    rows = boxes.inventory(_ask(_boxes(), "grains.item", boxes.GRAINS))
    slow = boxes.slow_boxes(boxes.twins(rows), boxes.medians(results), _settings()["outlier_share"])
    bad = [verdict for verdict in verdicts.values() if verdict not in ("ok", "uncertain", "not applicable")]
    __context__["retcode"] = 2 if slow or bad else 0
    return {"verdicts": dict(sorted(verdicts.items())), "slow": slow}


@runner
def report():
    """
    Check the GPUs of all boxes, and write a page about the fleet: boxes, faults, releases, benchmarks.

    Returns the path of the HTML file on the master, and of a copy with the time in its name.

    CLI Example:

    .. code-block:: bash

        fleet-salt-run fleet.report
    """
    names = _boxes()
    health = _ask(names, "gpu.health")
    grains = _ask(names, "grains.item", boxes.GRAINS)
    versions = _ask(names, "checkout.version")
    now = time.gmtime()
    html = page(grains, health, versions, time.strftime("%Y-%m-%d %H:%M UTC", now), _settings()["outlier_share"])
    folder = Path(_settings()["home"], "report")
    files = [folder / "fleet.html", folder / f"fleet-{time.strftime('%Y-%m-%dT%H%M%SZ', now)}.html"]
    for file in files:
        file.write_text(html)
    return [str(file) for file in files]


def _settings():
    return __opts__["fleet"]


def _size(batch):
    return plans.checked_size(_settings()["batch"] if batch is None else batch)


def _keys():
    with salt.key.get_key(__opts__) as store:
        return store.list_keys()


def _boxes():
    return _keys()["minions"]


def _ask(names, fun, arg=()):
    """Run a function on boxes. Returns for each box `ret` and `retcode`; a silent one has the retcode 1."""
    if not names:
        return {}
    with salt.client.get_local_client(mopts=__opts__) as client:
        returned = client.cmd(
            list(names), fun, list(arg), tgt_type="list", timeout=_settings()["answer_s"], full_return=True
        )
    return plans.answers(names, returned)


def _versions():
    return {box: answer["ret"] for box, answer in sorted(_ask(_boxes(), "checkout.version").items())}


def _orchestrate(steps):
    """Run the steps one after the other; each has to succeed on all its boxes. Returns the result of a rollout."""
    started = time.time()
    stopped = None
    with plans.alone(Path(__opts__["cachedir"], "rollout.lock")):
        if steps:
            plan = {"answer_s": _settings()["answer_s"], "steps": [step._asdict() for step in steps]}
            result = __salt__["state.orchestrate"]("fleet.rollout", pillar={"plan": plan})
            states = next(iter(result["data"].values())) if isinstance(result, dict) and "data" in result else result
            if not isinstance(states, dict):
                raise VaultCubeError("the rollout cannot start: " + "; ".join(map(str, states or ["no result"])))
            stopped = plans.stopped_at(states, steps)
    versions = _versions()
    __context__["retcode"] = 1 if stopped else 0
    return {
        "result": "stopped" if stopped else "done",
        "stopped": stopped,
        "boxes": versions,
        "seconds": round(time.time() - started),
    }
