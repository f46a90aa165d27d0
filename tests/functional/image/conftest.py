"""Fixtures with a copy of the checkout, for tests that change it."""

from copied import checkout, workspace  # noqa: F401 fixtures
