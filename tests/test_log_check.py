"""The check of the log can fail a run: each kind of thing that nobody asks for does."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

HEAD = """
import asyncio, gc, logging, aiohttp, pytest

async def fail():
    raise ValueError("mistake")
"""

SURPRISES = {
    "Task was destroyed": """
async def test():
    async def wait():
        await asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    del task
    gc.collect()
""",
    "Task exception was never retrieved": """
async def test():
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    del task
""",
    "Future exception was never retrieved": """
async def test():
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("mistake"))
    cycle = [future]
    cycle.append(cycle)  # found by the garbage collector alone
    del future
""",
    "Unclosed client session": """
async def test():
    aiohttp.ClientSession()
""",
    "was never awaited": """
async def test():
    fail()
""",
    "logged, and not asked for": """
async def test():
    try:
        await fail()
    except ValueError:
        logging.getLogger("sockjs_aio").warning("something failed", exc_info=True)
""",
    "not logged: mistake": """
@pytest.mark.logs("mistake")
async def test():
    pass
""",
}

FINE = """
@pytest.mark.logs("mistake")
async def test():
    try:
        await fail()
    except ValueError:
        logging.getLogger("sockjs_aio").exception("as it should")
"""


FAILING = """
import ast

def parse(depth):
    return parse(depth - 1) if depth else ast.parse("deeper")

def test():
    gc.callbacks.append(lambda *_: parse(20))  # as a traceback of what is collected does
    gc.set_threshold(20)
    assert "what is wrong" == ""
"""


def run(directory: Path, tests: list[str]) -> list[str]:
    """Run tests with the check and the project's settings; return why each fails, or "".

    Each has a module of its own, at whose end is reported what it has left behind.
    """
    for number, code in enumerate(tests):
        (directory / f"test_{number}.py").write_text(HEAD + code)
    report = directory / "report.xml"
    options = ["-c", "pyproject.toml", "--rootdir", ".", "-p", "tests.log_check"]
    options += ["-p", "no:cacheprovider", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", "-q", *options, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout
    reasons = dict.fromkeys(range(len(tests)), "")
    for case in ElementTree.parse(report).iter("testcase"):
        number = int(case.attrib["classname"].rpartition("_")[2])
        reasons[number] += "".join(x.text or "" for x in case if x.tag in ("failure", "error"))
    return list(reasons.values())


def test_what_nobody_asks_for_fails_its_test_and_what_was_asked_for_passes(tmp_path: Path) -> None:
    fine, *others = run(tmp_path, [FINE, *SURPRISES.values()])
    assert fine == ""
    for what, reason in zip(SURPRISES, others, strict=True):
        assert what in reason


def test_report_of_a_failure_is_not_disturbed_by_what_is_collected(tmp_path: Path) -> None:
    (reason,) = run(tmp_path, [FAILING])
    assert "what is wrong" in reason
