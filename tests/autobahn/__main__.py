"""`make autobahn`: Autobahn's test suite for WebSockets against our raw WebSocket.

It has about 500 cases on framing, fragments, UTF-8, close frames, limits and compression.  With
``--short``, those that only measure, and most of those on compression, are left out.  The exit
status is 1 if a case fails.
"""

import argparse
import asyncio
import collections
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from sockjs_aio import SockJSConnection, SockJSRouter

MEGABYTE = 1024 * 1024
SETTINGS = {
    "websocket_compression": True,
    "max_message_size": 16 * MEGABYTE,  # of cases 9.1.6 and 9.2.6
    "send_queue_limit": 64 * MEGABYTE,
}
SHORT = ["9.*", "12.1.1?", "12.[2345].*", "13.[234567].*", "13.1.1?"]
"""Cases that are left out with ``--short``."""

FAIL_LATER = {"6.4.1", "6.4.2", "6.4.3", "6.4.4"}
"""Cases where we refuse broken UTF-8 once the message is whole, and Autobahn hopes for earlier."""

PASSED = ("OK", "INFORMATIONAL")

Results = dict[str, dict[str, Any]]


class Echo(SockJSConnection):
    """Sends each message back."""

    async def on_message(self, message: str | bytes) -> None:
        self.send(message)


async def run(wstest: str, folder: Path, left_out: list[str]) -> Results:
    """Run the cases against a server in this process; return their results."""
    app = web.Application()
    SockJSRouter(Echo, "/echo", SETTINGS).attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    spec = {
        "outdir": str(folder),
        "servers": [
            {"agent": "sockjs-aio", "url": f"ws://127.0.0.1:{site.port}/echo/websocket"},
        ],
        "cases": ["*"],
        "exclude-cases": left_out,
        "exclude-agent-cases": {},
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    client = await asyncio.create_subprocess_exec(
        *(wstest, "-m", "fuzzingclient", "-s", str(path)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    status = await client.wait()
    await runner.cleanup()
    assert status == 0, f"{wstest} ended with status {status}"
    results: Results = json.loads((folder / "index.json").read_text())["sockjs-aio"]
    return results


def table(results: Results) -> str:
    """Return how many cases of each chapter passed, as a table in Markdown."""
    chapters: dict[str, collections.Counter[str]] = {}
    for case, result in results.items():
        chapters.setdefault(case.partition(".")[0], collections.Counter())[result["behavior"]] += 1
    lines = [
        "| chapter | cases | passed | not strict | failed |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for chapter, counted in sorted(chapters.items(), key=lambda item: int(item[0])):
        passed, late = sum(counted[name] for name in PASSED), counted["NON-STRICT"]
        failed = counted.total() - passed - late
        lines.append(f"| {chapter} | {counted.total()} | {passed} | {late} | {failed} |")
    return "\n".join(lines)


def failures(results: Results) -> list[str]:
    """Return the cases that did not pass, and how they ended."""
    found = []
    for case, result in results.items():
        behavior, close = result["behavior"], result["behaviorClose"]
        is_late = behavior == "NON-STRICT" and case in FAIL_LATER
        if not ((behavior in PASSED or is_late) and close in PASSED):
            found.append(f"case {case}: {behavior}; its end: {close}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    parser.add_argument("wstest", help="Autobahn's program")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(run(options.wstest, Path(folder), SHORT if options.short else []))
    print(table(results))
    failed = failures(results)
    print("\n".join(failed))
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
