"""What all functions of a runner have in common: exit codes, and errors in one line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from vault_cube.errors import VaultCubeError, shown


def runner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a runner an exit code, and return an error in one line; Salt would show the traceback of an exception.

    salt-run takes the exit code from the key `retcode` of the result, salt-api from the context, which Salt's loader
    puts into the function's module.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        context = function.__globals__["__context__"]
        # salt-api adds arguments such as __current_eauth_user
        kwargs = {name: value for name, value in kwargs.items() if not name.startswith("__")}
        context["retcode"] = 0
        try:
            _bind(function, args, kwargs)
            result = function(*args, **kwargs)
        except (VaultCubeError, OSError) as err:
            context["retcode"] = 1
            result = {"error": shown(err)}
        if context["retcode"] and isinstance(result, dict):
            result = {**result, "retcode": context["retcode"]}
        return result

    return wrapped


def _bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as err:
        raise VaultCubeError(f"fleet.{function.__name__}: {err}") from err
