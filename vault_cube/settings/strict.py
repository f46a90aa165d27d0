"""The base class of all pillar models: unknown keys and wrong types are errors, and fields have no defaults."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A mapping in the pillar. Fields have types and descriptions but no defaults: all values are in the pillar."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True)
class Unit:
    """The unit of a number, for docs/pillar.md. Needed if the key's name does not end in the unit."""

    name: str


Fraction = Annotated[float, Field(ge=0, le=1), Unit("share")]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\s]*$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
