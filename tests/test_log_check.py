"""The check of the log can fail a run: each kind of thing that nobody asks for does."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def run(directory: Path, code: str) -> tuple[int, str]:
    """Run one test with the check and the project's settings; return the status and the output."""
    module = directory / "test_one.py"
    module.write_text(HEAD + code)
    options = ["-q", "-c", "pyproject.toml", "--rootdir", ".", "-p", "tests.log_check"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", str(module)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("what", SURPRISES)
def test_what_nobody_asks_for_fails_the_run(tmp_path: Path, what: str) -> None:
    status, output = run(tmp_path, SURPRISES[what])
    assert status == 1, output
    assert what in output


def test_what_a_test_asks_for_passes(tmp_path: Path) -> None:
    status, output = run(tmp_path, FINE)
    assert status == 0, output
