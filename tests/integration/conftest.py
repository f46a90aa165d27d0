"""What several of these tests use."""

from copied import checkout  # noqa: F401 a fixture
