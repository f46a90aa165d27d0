"""Pillar section `validation`: monitoring, and the record of the image."""

from pydantic import Field, model_validator

from vault_cube.settings.monitoring import Monitoring
from vault_cube.settings.strict import AbsolutePath, PackageName, Section


class Validation(Section):
    """Layer 5: monitoring, checks and benchmarks; the thresholds of a layer's checks are in its own `gates`."""

    packages: list[PackageName] = Field(description="Packages of the layer")
    manifest: AbsolutePath = Field(
        description="File with name, version and target of the image that the box was made from"
    )
    monitoring: Monitoring

    @model_validator(mode="after")
    def _installed(self) -> "Validation":
        needed = ["prometheus-node-exporter", "smartmontools"]
        needed += ["prometheus"] if self.monitoring.prometheus.enabled else []
        missing = [name for name in needed if name not in self.packages]
        if missing:
            raise ValueError(f"monitoring needs {', '.join(missing)}: add them to validation:packages")
        return self
