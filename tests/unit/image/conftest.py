"""A checkout of its own for a test that changes one."""

from copied import checkout, workspace  # noqa: F401 fixtures
from small_image import key, space  # noqa: F401 fixtures
