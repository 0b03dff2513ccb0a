"""Options set in the environment: ``--drain-limit`` as ``SOCKJS_AIO_DRAIN_LIMIT``."""

import argparse
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

PREFIX = "SOCKJS_AIO_"

_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")

_OF_KUBERNETES = re.compile(PREFIX + r"(SERVICE_(HOST|PORT.*)|PORT_\d+_.*)")
"""Variables that Kubernetes sets for a service whose name is ``sockjs-aio``."""


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

    def unknown_in(self, environment: Mapping[str, str]) -> Iterator[str]:
        """Yield a sentence for each variable that looks like an option and is none."""
        known = [action.dest.upper() for action in self._actions if action.option_strings]
        for name in environment:
            own = name.removeprefix(PREFIX)
            if own == name or own in known or _OF_KUBERNETES.fullmatch(name):
                continue
            near = difflib.get_close_matches(own, known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else f"see {self.prog} --help"
            yield f"{name} in the environment sets no option: {hint}"

    def error(self, message: str) -> NoReturn:
        """Exit with a message, which names the variable if the wrong value comes from one."""
        for option, name in self._given.items():
            if message.startswith(f"argument {option}:"):
                message += f" (set by {name} in the environment)"
                if "tcp://" in message:
                    message += (
                        "; Kubernetes does that for a service named sockjs-aio: set "
                        "enableServiceLinks: false, or give the service another name"
                    )
        super().error(message)

    def _written(self, action: argparse.Action, option: str, name: str, value: str) -> list[str]:
        if action.nargs == 0:
            if value.lower() not in _YES + _NO:
                self.error(f"argument {option}: {value!r} must be 1 or 0")
            return [option] if value.lower() in _YES else []
        if isinstance(action, argparse._AppendAction):
            return [f"{option}={part.strip()}" for part in value.split(",")]
        return [f"{option}={value}"]
