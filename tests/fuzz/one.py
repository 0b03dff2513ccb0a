"""Run one target, guided by its coverage: ``python -m tests.fuzz.one TARGET [OPTION...]``.

The options are libFuzzer's.
"""

import sys

import atheris

# what is imported here reports which branches an input takes
with atheris.instrument_imports(include=["sockjs_aio", "json", "urllib.parse", "tests.fuzz"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
