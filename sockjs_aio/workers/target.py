"""Finds the application that a command line names."""

import importlib
import inspect
from typing import Any

from aiohttp import web


class TargetError(Exception):
    """It cannot be found, or is no application."""


def split(target: str) -> tuple[str, str]:
    """Split ``package.module:name``.

    Raises:
        TargetError: If it has another form.
    """
    if not isinstance(target, str):
        raise TargetError(
            f"{target!r} cannot be served: each worker imports it, so it has to be a str like "
            "package.module:app_factory"
        )
    module, _, name = target.partition(":")
    if not (module and name) or module.startswith("."):
        raise TargetError(f"{target!r} is not of the form package.module:app_factory")
    return module, name


async def load(target: str) -> web.Application:
    """Import the module, and get the application from the name.

    Raises:
        TargetError: If there is none.
    """
    module_name, name = split(target)
    try:
        thing: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # one that it imports
        raise TargetError(
            f"{error}: start the command in the directory that has it, or name that in PYTHONPATH"
        ) from None
    for attribute in name.split("."):
        if not hasattr(thing, attribute):
            raise TargetError(f"{module_name} has no {name}")
        thing = getattr(thing, attribute)
    if not isinstance(thing, web.Application) and callable(thing):
        thing = thing()
    if inspect.isawaitable(thing):
        thing = await thing
    if not isinstance(thing, web.Application):
        raise TargetError(f"{target} gives {type(thing).__name__}, not an aiohttp application")
    return thing
