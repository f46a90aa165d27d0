"""Pillar section `validation`: what the box carries to prove itself."""

from pydantic import Field, model_validator

from vault_cube.settings.monitoring import Monitoring
from vault_cube.settings.strict import AbsolutePath, PackageName, Section


class Validation(Section):
    """Layer 5; the thresholds of a layer's checks stand in that layer's own `gates`."""

    packages: list[PackageName]
    manifest: AbsolutePath = Field(description="name, version and target of the image that the box was made from")
    monitoring: Monitoring

    @model_validator(mode="after")
    def _installed(self) -> "Validation":
        needed = ["prometheus-node-exporter", "smartmontools"]
        needed += ["prometheus"] if self.monitoring.prometheus.enabled else []
        missing = [name for name in needed if name not in self.packages]
        if missing:
            raise ValueError(f"monitoring needs {', '.join(missing)} in validation:packages")
        return self
