"""Imports the application that the command line names."""

import importlib
import inspect
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import aiosignal
from aiohttp import web

_ON_THE_WAY = (
    *(
        str(Path(__file__).parents[2]),
        str(Path(web.__file__).parent),
        str(Path(aiosignal.__file__)),
    ),
    *(str(Path(importlib.__file__).parent), "<frozen importlib"),
)
"""Files whose frames come before the application's own in a traceback."""


class TargetError(Exception):
    """The target cannot be found, or is not an application."""


def split(target: str) -> tuple[str, str]:
    """Split ``package.module:name``.

    Raises:
        TargetError: If it does not have this form.
    """
    if not isinstance(target, str):
        raise TargetError(
            f"{target!r} cannot be served: each worker imports the application, so pass a str like "
            "package.module:app_factory"
        )
    module, _, name = target.partition(":")
    if not (module and name) or module.startswith("."):
        raise TargetError(f"{target!r} does not have the form package.module:app_factory")
    return module, name


async def load(target: str) -> web.Application:
    """Import the module, and get or make the application.

    Raises:
        TargetError: If that fails, or gives something else than an application.
    """
    module_name, name = split(target)
    try:
        thing: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the target imports
        raise TargetError(
            f"{error}: start the command in the directory that has it, or add that to PYTHONPATH"
        ) from None
    for attribute in name.split("."):
        if not hasattr(thing, attribute):
            raise TargetError(f"module {module_name} has no attribute {name}")
        thing = getattr(thing, attribute)
    if not isinstance(thing, web.Application) and callable(thing):
        thing = thing()
    if inspect.isawaitable(thing):
        thing = await thing
    if not isinstance(thing, web.Application):
        raise TargetError(
            f"{target} must be or return an aiohttp application, not {type(thing).__name__}"
        )
    return thing


def report(target: str, error: BaseException) -> str:
    """Return why an application cannot start, with a traceback of only its own code."""
    if isinstance(error, TargetError):
        return str(error)
    own = _own_part(error.__traceback__)
    lines = traceback.format_exception(type(error), error, own)
    return f"{target} failed:\n{''.join(lines)}".rstrip()


def _own_part(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_ON_THE_WAY):
        frames = frames.tb_next
    return frames
