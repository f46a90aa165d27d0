"""A box with four RTX 5090: the fake NVML, the kernel's files beside it, and the production target's pillar."""

from copied import pillar_of
from fake_host import FakeHost

from vault_cube.gpu.health import health
from vault_cube.gpu.nvml.session import Session
from vault_cube.settings import check


class Box:
    """`nvml`, `host` and `pillar` may be changed; `bad()` are the bad verdicts of gpu.health."""

    def __init__(self, nvml, folder):
        self.nvml, self.folder = nvml, folder
        self.pillar = pillar_of("ubuntu-24.04")
        self.pillar["runtime"] |= {
            "provider": "none",
            "packages": [],
            "mode": None,
            "cgroup_driver": None,
            "repositories": [],
        }
        self.be("4x5090")

    def be(self, profile):
        """Another machine, and a pillar that expects it."""
        self.nvml.profile(profile)
        gpus = self.nvml.state["gpus"]
        self.host = FakeHost.make(self.folder / profile.replace(" ", "-"), gpus)
        self.pillar["driver"]["gates"] |= {"gpus": len(gpus)}
        if profile != "4x5090":
            self.pillar["driver"]["gates"] |= {"memory_mib": 24564, "pcie_generation": 0}
            self.pillar["driver"]["power"]["limit_w"] = None
            self.pillar["gpu"]["model"] = None

    def settings(self):
        """The pillar, checked against the schema."""
        return check(self.pillar)

    def report(self, answer_s=10, **options):
        """What gpu.health finds."""
        with Session(answer_s) as session:
            return health(session, self.settings(), self.host, **{"window_s": 0.01, **options})

    def health(self, **options):
        """The report as --out=json prints it."""
        return self.report(**options).as_dict()

    def bad(self, **options):
        """{check: {gpu or "box": status}} of the verdicts that are neither ok nor not applicable."""
        bad = {}
        for verdict in self.report(**options).verdicts:
            if verdict.bad:
                assert verdict.todo, f"{verdict.check}: nothing to do about it"
                assert "\n" not in verdict.evidence + verdict.todo
                bad.setdefault(verdict.check, {})["box" if verdict.gpu is None else verdict.gpu] = verdict.status
        return bad
