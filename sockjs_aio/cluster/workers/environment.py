"""Options set in the environment: ``--drain-limit`` as ``SOCKJS_AIO_DRAIN_LIMIT``."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

PREFIX = "SOCKJS_AIO_"

_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")


class EnvironmentParser(argparse.ArgumentParser):
    """A parser whose options can be set in the environment; the command line wins."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._given: dict[str, str] = {}

    def arguments_of(self, environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
        """Return, as arguments, the options that only the environment sets."""
        found = []
        named = {argument.partition("=")[0] for argument in arguments}
        for action in self._actions:
            option = action.option_strings[-1] if action.option_strings else ""
            name = PREFIX + action.dest.upper()
            if not option or option in named or name not in environment:
                continue
            if isinstance(action, (argparse._HelpAction, argparse._VersionAction)):
                continue
            self._given[option] = name
            found += self._written(action, option, name, environment[name])
        return found

    def error(self, message: str) -> NoReturn:
        """Exit with a message, which names the variable if the wrong value comes from one."""
        for option, name in self._given.items():
            if message.startswith(f"argument {option}:"):
                message += f" (set by {name} in the environment)"
        super().error(message)

    def _written(self, action: argparse.Action, option: str, name: str, value: str) -> list[str]:
        if action.nargs == 0:
            if value.lower() not in _YES + _NO:
                self.error(f"argument {option}: {value!r} must be 1 or 0")
            return [option] if value.lower() in _YES else []
        if isinstance(action, argparse._AppendAction):
            return [f"{option}={part.strip()}" for part in value.split(",")]
        return [f"{option}={value}"]
