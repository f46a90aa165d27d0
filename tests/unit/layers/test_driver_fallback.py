"""gpu.driver_fallback's logic against a machine that answers as told."""

from vault_cube.box.fallback import fallback

DRIVER = {
    "provider": "ubuntu",
    "branch": "580",
    "packages": ["nvidia-utils-580"],
    "held": ["linux-image-generic", "nvidia-utils-580"],
    "fallbacks": [
        {"branch": "595", "packages": ["nvidia-utils-595"]},
        {"branch": "570", "packages": ["nvidia-utils-570"]},
    ],
    "gates": {"gpus": 4},
}


class Machine:
    """A box on which only some drivers come up; it remembers every command."""

    def __init__(self, works=(), installed="580", network=True):
        self.works, self.installed, self.network, self.calls = works, installed, network, []

    def __call__(self, words):
        self.calls.append(" ".join(words))
        if words[0] == "nvidia-smi":
            return (0, "4") if self.installed in self.works else (9, "NVIDIA-SMI has failed")
        if "--download-only" in words and not self.network:
            return 100, "E: Failed to fetch"
        if words[:2] == ["apt-get", "install"] and "--download-only" not in words:
            self.installed = words[-1].rpartition("-")[2]
        return 0, ""


def test_a_driver_that_works_is_left_alone():
    machine = Machine(works=["580"])
    found = fallback(DRIVER, dry=False, runner=machine)
    assert found["good"]
    assert found["branch"] == "580"
    assert len(machine.calls) == 1


def test_the_next_driver_is_installed_held_and_validated():
    machine = Machine(works=["595"])
    found = fallback(DRIVER, dry=False, runner=machine)
    assert (found["good"], found["branch"]) == (True, "595")
    assert "apt-get purge -y nvidia-utils-580" in machine.calls
    assert "apt-mark hold linux-image-generic nvidia-utils-595" in machine.calls
    assert "driver:branch" in found["next"]
    assert machine.installed == "595"


def test_the_second_fallback_replaces_the_first_and_the_kernel_stays_held():
    machine = Machine(works=["570"])
    found = fallback(DRIVER, dry=False, runner=machine)
    assert found["branch"] == "570"
    assert "apt-get purge -y nvidia-utils-595" in machine.calls
    assert "apt-mark hold linux-image-generic nvidia-utils-570" in machine.calls
    assert not any(call.startswith("apt-mark unhold") and "linux-image" in call for call in machine.calls)


def test_no_driver_comes_up():
    found = fallback(DRIVER, dry=False, runner=Machine())
    assert not found["good"]
    assert found["branch"] is None
    assert [step["said"] for step in found["steps"] if not step["good"]].count("NVIDIA-SMI has failed") == 3


def test_without_a_network_nothing_is_purged():
    machine = Machine(network=False)
    found = fallback(DRIVER, dry=False, runner=machine)
    assert not found["good"]
    assert not any("purge" in call for call in machine.calls)


def test_a_dry_run_changes_nothing():
    machine = Machine(works=["595"])
    found = fallback(DRIVER, dry=True, runner=machine)
    assert not found["good"]
    assert "595, 570" in found["next"]
    assert all(call.startswith("nvidia-smi") for call in machine.calls)


def test_too_few_gpus_are_a_driver_that_does_not_work():
    found = fallback({**DRIVER, "gates": {"gpus": 8}}, dry=True, runner=Machine(works=["580"]))
    assert not found["good"]


def test_a_target_without_a_driver_says_so():
    found = fallback({**DRIVER, "provider": "none"}, dry=False, runner=Machine())
    assert not found["good"]
    assert "no driver" in found["next"]
