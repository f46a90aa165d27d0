"""A checkout of its own for a test that changes one."""

from small_image import key, space  # noqa: F401 fixtures
