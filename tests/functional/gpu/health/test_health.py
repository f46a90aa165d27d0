"""gpu.health over the fake: what is well is well, and each fault gives exactly its own verdict and no other."""

import pytest
from fake_box import Box
from fake_host import CLOSED

from vault_cube import verdicts
from vault_cube.gpu.health import CARD_CHECKS, heat, judge, look, use
from vault_cube.gpu.health import box as box_checks
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import sampling
from vault_cube.settings.gpu import CHECK_NAMES

BUS = "00000000:51:00.0"  # GPU 2 of the fake


def change(**fields):
    """A fault that is a change of GPU 2."""
    return lambda box: box.nvml.gpu(2, **fields)


def only(check, verdict, where=2):
    return {check: {where: verdict}}


def h200(**fields):
    def make(box):
        box.be("h200")
        box.nvml.gpu(0, **fields)

    return make


def pillar(path, value):
    def make(box):
        node = box.pillar
        *parents, last = path.split(":")
        for part in parents:
            node = node[part]
        node[last] = value

    return make


def runtime(provider, packages):
    """Containers get GPUs by CDI, from a provider."""
    chosen = {"provider": provider, "packages": packages, "mode": "cdi", "cgroup_driver": "cgroupfs"}
    return lambda box: box.pillar["runtime"].update(chosen)


def both(*makers):
    def make(box):
        for check in makers:
            check(box)

    return make


def loose_process(pid, cgroup, mib=2000):
    def make(box):
        box.host.process(pid, "python", cgroup)
        box.nvml.gpu(2, compute_process={0: f"{pid} {mib << 20}"})

    return make


def log(text, **options):
    return lambda box: box.host.kernel_line(text, **options)


def h200_xid(code, text):
    """An XID of a MIG instance of the only card."""

    def make(box):
        box.be("h200")
        box.nvml.gpu(0, mig={"mode": 1, "pending": 1})
        box.pillar["gpu"]["mig"] = True
        box.host.xid("00000000:11:00.0", code, text, instance=" GPU-I:05")

    return make


def recovery(change):
    return lambda box: box.host.xid(BUS, 154, f"GPU recovery action changed from {change}")


def accept(check, entry):
    return lambda box: box.pillar["gpu"]["health"]["accepted"].update({check: entry})


BUSY = {"utilisation": {"gpu": 90}, "throttle": 0x4, "performance_state": 1, "pcie": {"generation": 5}}
WARM = {"temperature": {0: 70}}

FAULTS = {
    # the box
    "one GPU is missing everywhere": (pillar("driver:gates:gpus", 5), only("count", "fault", "box")),
    "one GPU more than expected": (pillar("driver:gates:gpus", 3), only("count", "fault", "box")),
    "a GPU on the bus that the driver has not": (
        lambda box: box.host.add_gpu("00000000:91:00.0"), only("count", "fault", "box"),
    ),
    "the wrong model": (change(name="NVIDIA GeForce RTX 4090"), only("model", "fault", "box")),
    "a name that was cut off": (change(name="NVIDIA GeForce RT"), only("model", "fault", "box")),
    "too little memory": (change(memory={"total": 24564 << 20}), only("memory", "fault", "box")),
    "a model with more to its name": (change(name="NVIDIA GeForce RTX 5090 D"), only("model", "fault", "box")),
    "a notebook's model": (change(name="NVIDIA GeForce RTX 5090 Laptop GPU"), only("model", "fault", "box")),
    "a model with less to its name": (pillar("gpu:model", "TX 5090"), only("model", "fault", "box")),
    "another model of the pillar's, whole": (pillar("gpu:model", "GeForce RTX 5090"), {}),
    "one UUID on two cards": (
        change(uuid="GPU-5eed0000-0000-4000-8000-000000000001"), only("one uuid each", "warning", "box"),
    ),
    "two VBIOS versions": (change(vbios="98.02.2E.00.01"), only("one vbios", "warning", "box")),
    "library and module differ": (
        lambda box: box.host.write("proc/driver/nvidia/version", "NVIDIA UNIX Open Kernel Module  575.57.08"),
        only("versions agree", "fault", "box"),
    ),
    "the library alone is newer": (
        lambda box: box.nvml.set(nvml_version="13.580.105.08"), only("versions agree", "fault", "box"),
    ),
    "firmware of another version": (change(gsp_firmware="580.65.06"), only("versions agree", "warning", "box")),
    "nvidia_uvm is not loaded": (
        lambda box: box.host.write("proc/modules", "nvidia 14553088 5 - Live 0x0\nnvidia_drm 1 0 - Live 0x0\n"),
        only("kernel modules", "fault", "box"),
    ),
    "another branch than the pillar's": (pillar("driver:branch", "595"), only("versions agree", "warning", "box")),
    "closed modules on Blackwell": (
        lambda box: box.host.write("proc/driver/nvidia/version", CLOSED), only("kernel modules", "fault", "box"),
    ),
    "a branch that is too old for Blackwell": (
        both(lambda box: box.nvml.set(driver_version="565.57.01"),
             lambda box: box.host.write("proc/driver/nvidia/version", "Open Kernel Module  565.57.01")),
        {**only("kernel modules", "fault", "box"), **only("versions agree", "warning", "box")},
    ),
    "nouveau is loaded": (
        lambda box: box.host.write("proc/modules", "nouveau 2514944 0 - Live 0x0\nnvidia 1 0 - Live 0x0"),
        only("nobody else", "fault", "box"),
    ),
    "a GPU given to a virtual machine": (
        lambda box: box.host.add_gpu("00000000:91:00.0", driver="vfio-pci"),
        {**only("count", "fault", "box"), **only("nobody else", "fault", "box")},
    ),
    "ACS on a box with peer to peer": (
        both(lambda box: box.be("8 mixed"), lambda box: box.host.redirect(BUS)), only("peer path", "warning", "box"),
    ),
    "no container device description": (
        runtime("nvidia", ["nvidia-container-toolkit"]), only("containers", "fault", "box"),
    ),
    "no CDI specification of the driver": (
        runtime("vault-cube", []),
        only("containers", "fault", "box"),
    ),
    # one GPU
    "lost": (change(error=15), only("answers", "fault")),
    "needs a reset": (change(error=16), only("answers", "fault")),
    "lost in the middle of a read": (change(lost_after=25), only("answers", "fault")),
    "lost while it is opened": (change(handle_error=15), only("answers", "fault")),
    "hangs": (change(hang={"nvmlDeviceGetPowerUsage": 1}), only("answers", "fault")),
    "hangs only when it is asked for its throttle reasons": (
        change(hang={"nvmlDeviceGetCurrentClocksEventReasons": 1}), only("answers", "fault"),
    ),
    "takes the library down": (change(crash={"nvmlDeviceGetName": 1}), only("answers", "fault")),
    "one function fails": (change(error={"nvmlDeviceGetPowerUsage": 999}), only("answers", "warning")),
    "a text that does not fit": (
        change(uuid="x" * 200), only("answers", "warning"),
    ),
    "without a UUID": (change(uuid=None), only("answers", "warning")),
    "the driver asks for a reset": (change(field={230: 1}), only("recovery", "fault")),
    "fell off the bus a while ago": (
        lambda box: box.host.xid(BUS, 79, "pid=1, GPU has fallen off the bus.", hours_ago=50), only("xids", "fault"),
    ),
    "a program's XID, today": (lambda box: box.host.xid(BUS, 31, "MMU Fault"), only("xids", "warning")),
    "a program's XID, last week": (lambda box: box.host.xid(BUS, 31, "MMU Fault", hours_ago=170), {}),
    "an XID of MIG": (
        h200_xid(95, "pid=7194, name=python, Uncontained: LTC TAG (0x2, 0x1). RST: Yes"), only("xids", "fault", 0),
    ),
    "off the bus, without an XID": (
        log("NVRM: GPU 0000:51:00.0: GPU has fallen off the bus.", hours_ago=50), only("xids", "fault"),
    ),
    "off the bus when the driver started": (
        both(log("NVRM: The NVIDIA GPU 0000:51:00.0"), log("NVRM: (PCI ID: 10de:2b85) installed in this system has"),
             log("NVRM: fallen off the bus and is not responding to commands.")),
        only("xids", "fault"),
    ),
    "an XID that the catalog does not have": (
        lambda box: box.host.xid(BUS, 177, "Something new"), only("xids", "warning"),
    ),
    "an XID of the driver that the pillar falls back to": (
        lambda box: box.host.xid(BUS, 175, "Memory subsystem error"), only("xids", "fault"),
    ),
    "the driver asked for a reboot in the log alone": (
        both(recovery("0x0 (None) to 0x2 (Node Reboot Required)"),
             change(field={230: None})),
        only("xids", "fault"),
    ),
    "the driver asked for a reset, and got it": (
        both(recovery("0x0 (None) to 0x1 (GPU Reset Required)"), recovery("0x1 (GPU Reset Required) to 0x0 (None)")),
        {},
    ),
    "an XID of the boot before, which crashed": (
        both(lambda box: box.host.write("proc/uptime", "600.5 99"),
             lambda box: box.host.xid(BUS, 79, "fallen off", hours_ago=1, log="kernel.log.1")),
        only("xids", "warning"),
    ),
    "an XID of a boot of last week": (
        both(lambda box: box.host.write("proc/uptime", "600.5 99"),
             lambda box: box.host.xid(BUS, 79, "fallen off", hours_ago=170, log="kernel.log.1")), {},
    ),
    "a program's XID of the boot before": (
        both(lambda box: box.host.write("proc/uptime", "600.5 99"),
             lambda box: box.host.xid(BUS, 31, "MMU Fault", hours_ago=1, log="kernel.log.1")), {},
    ),
    "an XID of a neighbour": (lambda box: box.host.xid("00000000:5:00.0", 79, "fallen off"), {}),
    "an XID of no weight": (lambda box: box.host.xid(BUS, 63, "Row Remapper"), {}),
    "ECC: data was lost": (
        h200(ecc={"volatile": {"uncorrected": 2}, "aggregate": {"uncorrected": 2}}), only("ecc", "fault", 0),
    ),
    "ECC: data was lost in an earlier life, and dealt with": (h200(ecc={"aggregate": {"uncorrected": 2}}), {}),
    "ECC: SRAM beyond its threshold": (h200(sram={"exceeded": 1}), only("ecc", "fault", 0)),
    "ECC: corrected too often": (h200(ecc={"volatile": {"corrected": 11}}), only("ecc", "warning", 0)),
    "ECC: corrected a few times": (h200(ecc={"volatile": {"corrected": 10}}), {}),
    "ECC is off on a GeForce, as it ships": (
        both(lambda box: box.be("8 mixed"), change(ecc={"mode": 0, "pending": 0, "default": None})), {},
    ),
    "ECC is off on a card that ships with it off": (h200(ecc={"mode": 0, "pending": 0, "default": 0}), {}),
    "ECC is off": (h200(ecc={"mode": 0, "pending": 0}), only("ecc mode", "warning", 0)),
    "ECC waits for a reset": (h200(ecc={"pending": 0}), only("ecc mode", "warning", 0)),
    "a row that could not be remapped": (h200(remapped={"failed": 1}), only("remapped rows", "fault", 0)),
    "a row that waits": (h200(remapped={"uncorrected": 1, "pending": 1}), only("remapped rows", "warning", 0)),
    "a row was remapped": (h200(remapped={"uncorrected": 1}), {}),
    "many rows were remapped": (h200(remapped={"corrected": 900, "uncorrected": 511}), {}),
    "as many rows were remapped as NVIDIA allows": (
        h200(remapped={"uncorrected": 512}), only("remapped rows", "fault", 0),
    ),
    "a bank has no spare row left": (h200(histogram={"none": 1}), only("remapped rows", "warning", 0)),
    "the inforom is corrupted": (h200(inforom_corrupted=1), only("inforom", "warning", 0)),
    "sixteen double bit pages": (h200(retired={0: 0, 1: 16, "pending": 0}), only("retired pages", "warning", 0)),
    "sixty retired pages": (h200(retired={0: 20, 1: 40, "pending": 0}), only("retired pages", "fault", 0)),
    "a page waits": (h200(retired={0: 0, 1: 1, "pending": 1}), only("retired pages", "warning", 0)),
    "no resizable BAR": (change(bar1={"total": 256 << 20}), only("resizable bar", "warning")),
    "a slot of an older generation": (change(pcie={"generation_max": 4}), only("pcie slot", "fault")),
    "half the lanes, idle": (change(pcie={"width": 8}), only("pcie link", "warning")),
    "half the lanes, at work": (change(**BUSY | {"pcie": {"generation": 5, "width": 8}}), only("pcie link", "fault")),
    "generation 4 at work": (change(**BUSY | {"pcie": {"generation": 4}}), only("pcie link", "fault")),
    "generation 1 at rest": (change(pcie={"generation": 1}), {}),
    "replays": (change(pcie={"replays": 101}), only("pcie errors", "warning")),
    "as many replays in thirty days": (
        both(change(pcie={"replays": 1000}), lambda box: box.host.write("proc/uptime", "2592000.11 9.9")), {},
    ),
    "a nonfatal error on the bus": (
        lambda box: box.host.write(f"sys/bus/pci/devices/{BUS[4:]}/aer_dev_nonfatal", "TOTAL_ERR_NONFATAL 1"),
        only("pcie errors", "warning"),
    ),
    "a fatal error on the bus": (
        lambda box: box.host.write(f"sys/bus/pci/devices/{BUS[4:]}/aer_dev_fatal", "TOTAL_ERR_FATAL 1"),
        only("pcie errors", "fault"),
    ),
    "an NVLink is down": (h200(nvlink={link: {"state": link != 3} for link in range(18)}), only("nvlink", "fault", 0)),
    "an NVLink with errors": (
        h200(nvlink={link: {"state": 1, "errors": {0: 7}} for link in range(18)}), only("nvlink", "warning", 0),
    ),
    "links of a bridge, by the card's design": (lambda box: box.be("2x H100 NVL"), {}),
    "twelve of eighteen links of an H100 NVL, known by its name": (
        h200(name="NVIDIA H100 NVL", nvlink={n: {"state": int(n not in (4, 5, 10, 11, 16, 17))} for n in range(18)}),
        {},
    ),
    "a bridge of an H100 NVL is loose": (
        both(lambda box: box.be("2x H100 NVL"), lambda box: box.nvml.gpu(1, nvlink={0: {"state": 0}})),
        only("nvlink", "fault", 1),
    ),
    "one bridge of an A100, and a driver that does not say where it goes": (
        h200(name="NVIDIA A100 80GB PCIe", nvlink={n: {"state": int(n < 4)} for n in range(12)}), {},
    ),
    "one bridge on each of two cards": (
        both(
            lambda box: box.be("4x RTX PRO 6000"),
            lambda box: [box.nvml.gpu(n, nvlink={k: {"state": int(k < 4), "remote_type": 0} for k in range(12)})
                         for n in range(2)],
        ), {},
    ),
    "half a bridge": (
        both(
            lambda box: box.be("4x RTX PRO 6000"),
            lambda box: [box.nvml.gpu(n, nvlink={k: {"state": int(k < 4 - 2 * n), "remote_type": 0} for k in range(12)})
                         for n in range(2)],
        ), only("nvlink", "fault", 1),
    ),
    "no temperature": (change(temperature={0: None}), only("temperature", "warning")),
    "no temperature, and fans that stand still": (
        change(temperature={0: None}, fan={0: 0, 1: 0}), only("temperature", "warning"),
    ),
    "the function for it is gone": (
        change(error={"nvmlDeviceGetTemperature": 26}), only("temperature", "warning"),
    ),
    "too warm": (change(temperature={0: 86}), only("temperature", "warning")),
    "at its own limit": (change(temperature={0: 85}, threshold={1: 85, 3: 80}), only("temperature", "fault")),
    "past what its driver calls a margin": (
        change(temperature={0: 84}, threshold={1: None, 3: None}, margin=-1), only("temperature", "warning"),
    ),
    "cold, without any margin": (change(threshold={1: None, 3: None}, margin=0), {}),
    "warm, with a margin of 0": (change(temperature={0: 65}, threshold={0: None, 1: None, 3: None}, margin=0), {}),
    "warm, with a margin below 0": (change(temperature={0: 70}, threshold={1: None, 3: None}, margin=-5), {}),
    "hot, and far past its margin": (
        change(temperature={0: 84}, threshold={1: None, 3: None}, margin=-6), only("temperature", "fault"),
    ),
    "limits as distances": (
        change(temperature={0: 89}, threshold={0: None, 1: None, 3: None}, margin=-2, field={193: -8, 194: -2, 196: 0}),
        only("temperature", "fault"),
    ),
    "its memory is at its limit": (h200(field={82: 95}), only("temperature", "fault", 0)),
    "a fan stands still in the heat": (change(**WARM, fan={1: 0}), only("fan", "fault")),
    "fans stand still in the cool": (change(fan={0: 0, 1: 0}), {}),
    "fans can do no more": (change(fan={0: 100, 1: 100}), only("fan", "warning")),
    "another power cap": (change(power_limit_mw=400000), only("power cap", "warning")),
    "a power cap above the card's own": (
        both(change(power_limit_mw=600000), pillar("driver:power:limit_w", None)), {},
    ),
    "a power draw above its cap": (change(power_mw=700000, throttle=4), only("power cap", "warning")),
    "a power draw at its cap": (change(power_mw=590000, throttle=4), {}),
    "capped for ever, at the clocks of a GPU at rest": (
        change(power_mw=700000, throttle=4, performance_state=5, utilisation={"gpu": 100}, pcie={"generation": 5},
               compute_process={0: f"1 {1 << 30}"}),
        {**only("power cap", "warning"), **only("performance", "warning"), **only("processes", "warning")},
    ),
    "an undersized supply": (change(power_source=2), only("power supply", "fault")),
    "the board brakes": (
        change(throttle=0x80), {**only("power supply", "fault"), **only("throttling", "fault")},
    ),
    "too hot for the hardware": (change(throttle=0x40 | 0x8), only("throttling", "fault")),
    "too hot for the driver": (change(throttle=0x20 | 0x4), only("throttling", "warning")),
    "an hour of heat since the driver was loaded": (
        change(violation={1: 3_600_000_000_000}), only("throttling", "warning"),
    ),
    "half a minute of heat since the driver was loaded": (change(violation={1: 30_000_000_000}), {}),
    "hours at its power cap": (change(violation={0: 36_000_000_000_000}), {}),
    "the board braked, some time": (change(field={271: 5_000_000_000}), only("throttling", "warning")),
    "the hardware was too hot, some time": (change(field={270: 5_000_000_000}), only("throttling", "warning")),
    "stuck at rest while it works": (
        both(loose_process(4711, "/system.slice/a.service"),
             change(utilisation={"gpu": 100}, throttle=0, pcie={"generation": 5})),
        only("performance", "warning"),
    ),
    "stuck at low clocks in P0": (
        both(loose_process(4711, "/system.slice/a.service"),
             change(utilisation={"gpu": 97}, throttle=0, performance_state=0, pcie={"generation": 5}, clock={1: 345})),
        only("performance", "warning"),
    ),
    "its utilisation is stuck, and nobody uses it": (
        change(utilisation={"gpu": 100}, throttle=0, pcie={"generation": 1}, performance_state=8),
        only("performance", "warning"),
    ),
    "at its power cap": (change(throttle=0x4), {}),
    "a reason that nobody knows yet": (change(throttle=0x1000 | 0x1), only("throttling", "warning")),
    "clocks held by a setting": (change(throttle=0x2), only("clocks", "warning")),
    "clocks moved off their curve": (change(clock_offset={"memory": 500}), only("clocks", "warning")),
    "other application clocks": (h200(clock_chosen={0: 1500}), only("clocks", "warning", 0)),
    "no persistence": (change(persistence=0), only("persistence", "warning")),
    "nobody may compute": (change(compute_mode=2), only("compute mode", "fault")),
    "one process only": (change(compute_mode=3), only("compute mode", "warning")),
    "split without being asked": (h200(mig={"mode": 1, "pending": 1}), only("mig", "warning", 0)),
    "a split that waits": (h200(mig={"pending": 1}), only("mig", "warning", 0)),
    "a forgotten process": (loose_process(4711, "/user.slice/session-3.scope"), only("processes", "warning")),
    "an accepted warning": (both(change(persistence=0), accept("persistence", "borrowed")), {}),
    "an accepted warning on another card": (
        both(change(persistence=0), accept("persistence", {"reason": "x", "gpus": [1], "faults": False, "xids": []})),
        only("persistence", "warning"),
    ),
    "an accepted fault": (
        both(change(pcie={"generation_max": 4}),
             accept("pcie slot", {"reason": "x", "gpus": [2], "faults": True, "xids": []})), {},
    ),
    "a fault is not accepted with a warning": (
        both(change(pcie={"generation_max": 4}), accept("pcie slot", "the slot is old")), only("pcie slot", "fault"),
    ),
    "XIDs are accepted, and one comes that is a fault": (
        both(lambda box: box.host.xid(BUS, 79, "fallen off"), accept("xids", "a program under development")),
        only("xids", "fault"),
    ),
    "XIDs are accepted, by their codes": (
        both(lambda box: box.host.xid(BUS, 31, "MMU"),
             accept("xids", {"reason": "x", "gpus": None, "faults": False, "xids": [31]})), {},
    ),
    "another XID than the accepted one": (
        both(lambda box: box.host.xid(BUS, 31, "MMU"), lambda box: box.host.xid(BUS, 48, "DBE"),
             accept("xids", {"reason": "x", "gpus": None, "faults": False, "xids": [31]})),
        only("xids", "fault"),
    ),
    "an address that is none": (change(bus_id="N/A"), {}),
    "a process that is gone": (change(compute_process={0: f"4712 {1 << 30}"}), only("processes", "warning")),
    "a container": (loose_process(4713, "/system.slice/docker-0123abcd.scope", 30000), {}),
    "a service": (loose_process(4714, "/system.slice/system-vllm.slice/vault-cube-vllm@0.service", 30000), {}),
    "a small process of a person": (loose_process(4715, "/user.slice/user-1000.slice", 300), {}),
}  # fmt: skip


@pytest.mark.parametrize("profile", ["4x5090", "h200", "8 mixed"])
def test_a_healthy_box_is_ok(box, profile):
    if profile != "4x5090":
        box.be(profile)
    result = box.health()
    assert box.bad() == {}
    assert result["verdict"] == "ok"
    assert result["simulated"] is True


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_exactly_its_verdict(box, name):
    make, expected = FAULTS[name]
    make(box)
    # a hang takes its whole time limit; what does not hang may take longer than that on a busy machine
    assert box.bad(answer_s=1 if "hangs" in name else 10) == expected


def test_secure_boot_keeps_the_modules_out(box):
    box.host.write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\1")
    assert box.bad() == {}
    box.nvml.set(init_error=9)
    box.host.write("proc/modules", "")
    (box.host.root / "proc/driver/nvidia/version").unlink()
    assert box.bad() == {
        "driver answers": {"box": "fault"}, "count": {"box": "fault"}, "secure boot": {"box": "fault"},
    }  # fmt: skip


def test_an_old_driver_is_judged_by_its_functions(nvml_old, tmp_path):
    box = Box(nvml_old, tmp_path)
    assert box.bad() == {}
    nvml_old.gpu(1, throttle=0x8)
    assert box.bad() == only("throttling", "fault", 1)


def test_the_xid_of_a_lost_gpu_is_in_the_evidence(box):
    box.nvml.gpu(2, error=15)
    box.host.xid(BUS, 79, "pid=1, GPU has fallen off the bus.")
    evidence = [check["evidence"] for check in box.health()["checks"] if check["check"] == "answers"]
    assert evidence[2].endswith("the log has XID 79 (the GPU has fallen off the bus) at 0000:51:00")
    assert evidence[3] == "all"


def test_a_gpu_that_is_lost_during_sampling(box, monkeypatch):
    def later(session, indices, window_s):
        box.nvml.gpu(2, hang={"nvmlDeviceGetCurrentClocksEventReasons": 1})
        return honest(session, indices, window_s)

    honest = sampling.throttle_masks
    monkeypatch.setattr(sampling, "throttle_masks", later)
    assert box.bad(answer_s=1) == only("answers", "fault")


def test_links_are_judged_under_load(box, cuda):
    evidence = {check["check"]: check for check in box.health()["checks"] if check.get("gpu") == 2}
    assert evidence["pcie link"]["status"] == "not applicable"
    for index in range(4):
        box.nvml.gpu(index, pcie={"generation_busy": 5})
    box.nvml.gpu(2, pcie={"generation_busy": 3})
    box.pillar["gpu"]["health"]["load_s"] = 0.3
    result = [check for check in box.health(load=True)["checks"] if check["check"] == "pcie link"]
    assert [check["status"] for check in result] == ["ok", "ok", "fault", "ok"]
    assert result[2]["evidence"] == "gen 3 x16 instead of gen 5 x16 under load"


@pytest.mark.parametrize(
    ("order", "lost"),
    [
        # without the lost card CUDA numbers the others 0, 1, 2
        ("0,2,3", 1), ("1,2,3", 0), ("3,2", 1),
        # the fastest comes first
        ("3,0,1,2", None), ("2,3,1,0", None),
    ],
)  # fmt: skip
def test_the_load_is_on_the_judged_card(box, cuda, order, lost):
    """One card after the other has a slow link, and no other is blamed."""
    seen = [int(number) for number in order.split(",")]
    if lost is not None:
        box.nvml.gpu(lost, error=15)
    box.nvml.set(cuda={"order": order})
    box.pillar["gpu"]["health"]["load_s"] = 0.2
    for index in range(4):
        box.nvml.gpu(index, pcie={"generation_busy": 5})
    slow = seen[-1]
    box.nvml.gpu(slow, pcie={"generation_busy": 1})
    result = {check["gpu"]: check for check in box.health(load=True)["checks"] if check["check"] == "pcie link"}
    assert {index: result[index]["status"] for index in seen} == {
        index: "fault" if index == slow else "ok" for index in seen
    }
    for index in set(result) - set(seen):
        # CUDA does not see it: no verdict on its link
        assert "cuDeviceGetByPCIBusId" in result[index]["evidence"]


def test_replays_under_load(box, cuda):
    for index in range(4):
        box.nvml.gpu(index, pcie={"generation_busy": 5})
    box.pillar["gpu"]["health"]["load_s"] = 1.0
    box.nvml.during(0, 4, 2, pcie={"replays": "0>90"})
    box.nvml.during(0, 4, 1, pcie={"replays": "0>4"})
    box.nvml.begin()
    result = {check["gpu"]: check for check in box.health(load=True)["checks"] if check["check"] == "pcie errors"}
    assert [result[index]["status"] for index in range(4)] == ["ok", "ok", "warning", "ok"]
    assert "during the load" in result[2]["evidence"]


def test_a_load_that_does_not_start_gives_no_verdict_on_the_link(box, monkeypatch, tmp_path):
    # found before a driver's own, and no library
    (tmp_path / "libcuda.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    result = [check for check in box.health(load=True)["checks"] if check["check"] == "pcie link"]
    assert {check["status"] for check in result} == {"warning"}
    assert "no load: " in result[0]["evidence"]


def test_an_accepted_verdict_is_ok_and_has_its_reason(box):
    box.nvml.gpu(2, persistence=0)
    box.pillar["gpu"]["health"]["accepted"] = {"persistence": "the card is borrowed"}
    result = box.health()
    assert result["verdict"] == "ok"
    assert [check["evidence"] for check in result["checks"] if check["check"] == "persistence"][2] == (
        "disabled (driver:persistence) (accepted: the card is borrowed)"
    )


def test_impossible_values_break_no_check(box):
    box.nvml.gpu(2, bus_id="N/A")
    result = box.health()["checks"]
    assert not [check for check in result if "this check broke" in check["evidence"]]
    assert box.bad() == {}


def test_missing_counters_are_not_zero(box):
    box.be("2x H100 NVL")
    evidence = [check["evidence"] for check in box.health()["checks"] if check["check"] == "nvlink"]
    assert evidence == ["12 of 18 up; error counters not available"] * 2
    box.nvml.gpu(0, nvlink={0: {"errors": {0: 0}}})
    evidence = [check["evidence"] for check in box.health()["checks"] if check["check"] == "nvlink"]
    assert evidence[0] == "12 of 18 up; 0 replay"
    box.nvml.gpu(1, ecc={"volatile": {"corrected": None}, "aggregate": None})
    evidence = [check["evidence"] for check in box.health()["checks"] if check["check"] == "ecc"]
    assert evidence[1] == "since loading 0 uncorrected; ever unknown"


def test_a_process_that_ended_between_two_readings(box):
    box.nvml.gpu(2, compute_process={0: f"4712 {1 << 30}"})
    box.nvml.during(0.1, 99, 2, compute_process={0: "-"})
    box.nvml.begin()
    # the second look comes after the sampling
    assert box.bad(window_s=0.3) == {}


def test_device_files(box):
    for name, mode in (("nvidiactl", 0o666), ("nvidia-uvm", 0o666), *((f"nvidia{n}", 0o666) for n in range(4))):
        box.host.write(f"dev/{name}", "")
        (box.host.root / "dev" / name).chmod(mode)
    assert box.bad() == {}
    (box.host.root / "dev/nvidia2").chmod(0o660)
    assert box.bad() == {"device files": {"box": "warning"}}
    (box.host.root / "dev/nvidia-uvm").unlink()
    assert box.bad() == {"device files": {"box": "fault"}}


def test_a_process_name_cannot_break_lines(box):
    box.host.process(4711, "a\n  FAULT    b", "/user.slice/session-3.scope")
    box.nvml.gpu(2, compute_process={0: f"4711 {2000 << 20}"})
    text = box.report().table()
    assert "a?  FAULT    b" in text
    assert not [line for line in text.splitlines() if line.strip().startswith("FAULT    b")]


def test_advice_to_reset_names_a_command_that_works(box):
    box.nvml.gpu(2, error=16)
    box.host.xid("00000000:11:00.0", 95, "Uncontained")
    todo = [check["todo"] for check in box.health()["checks"] if check["status"] == "fault"]
    assert len(todo) == 2
    assert all("gpu.reset" in text and "--gpu-reset" not in text for text in todo)


def test_without_a_log_xids_are_not_applicable(box):
    (box.host.root / "kernel.log").unlink()
    evidence = {check["status"] for check in box.health()["checks"] if check["check"] == "xids"}
    assert evidence == {"not applicable"}


def test_a_broken_check_is_reported_and_hides_nothing(box):
    def fan(card, seen):
        raise KeyError("speed")

    with Session() as session:
        seen = look(session, box.settings(), box.host, window_s=0.01, load=False)
    by_check = {}
    for verdict in judge(seen, (), (heat.temperature, fan)):
        by_check.setdefault(verdict.check, set()).add(verdict.status)
    assert by_check == {"answers": {"ok"}, "temperature": {"ok"}, "fan": {"warning"}}


def test_the_schema_names_all_checks():
    assert [verdicts.name(check) for check in (*box_checks.CHECKS, use.answers, *CARD_CHECKS)] == list(CHECK_NAMES)


def test_the_table_has_equal_verdicts_once(box):
    box.nvml.gpu(1, error=15)
    box.nvml.gpu(3, persistence=0)
    lines = box.report().table().splitlines()
    assert lines[0].startswith("FAULT: 3 x NVIDIA GeForce RTX 5090, 1 x unknown GPU")
    assert "simulated: true" in lines[1]
    assert lines[2].split()[:4] == ["FAULT", "answers", "GPU", "1"]
    assert "→ cold boot" in lines[3]
    assert sum(line.startswith("WARNING") and "persistence" in line for line in lines) == 1
    assert any("GPU 0,2" in line and "persistence" in line for line in lines)
