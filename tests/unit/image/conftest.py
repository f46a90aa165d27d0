"""A checkout of its own for a test that changes one."""

from copied import checkout, workspace  # noqa: F401 fixtures
