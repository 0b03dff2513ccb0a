"""Options that the environment may give, too: ``--drain-limit`` as ``SOCKJS_AIO_DRAIN_LIMIT``."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

PREFIX = "SOCKJS_AIO_"

_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")


class EnvironmentParser(argparse.ArgumentParser):
    """A parser whose options the environment may give; the command line goes first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._given: dict[str, str] = {}

    def arguments_of(self, environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
        """Return the options that the environment gives and `arguments` do not."""
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
        """End with a message, which says where an option comes from."""
        for option, name in self._given.items():
            if message.startswith(f"argument {option}:"):
                message += f" ({name} is set)"
        super().error(message)

    def _written(self, action: argparse.Action, option: str, name: str, value: str) -> list[str]:
        if action.nargs == 0:
            if value.lower() not in _YES + _NO:
                self.error(f"argument {option}: {value!r} is neither 1 nor 0")
            return [option] if value.lower() in _YES else []
        if isinstance(action, argparse._AppendAction):
            return [f"{option}={part.strip()}" for part in value.split(",")]
        return [f"{option}={value}"]
