"""The command line of the doctor: examines a service, and prints what it found."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from sockjs_aio.cli.doctor.findings import STICKINESS, Finding
from sockjs_aio.cli.doctor.sends_check import check_sends
from sockjs_aio.cli.doctor.service_check import check_headers, check_iframe, check_info, guarded
from sockjs_aio.cli.doctor.tls_check import check_tls
from sockjs_aio.cli.doctor.transport_check import TransportCheck
from sockjs_aio.cli.session import add_options, new_session, seconds
from sockjs_aio.client import TRANSPORTS, ClientOptions
from sockjs_aio.client.address import Address
from sockjs_aio.errors import SettingsError

_ALL = ("websocket", "rawwebsocket", *TRANSPORTS[1:])


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog=f"{prog} doctor",
        description="Find out what stands between clients and a SockJS service: transports that do "
        "not open, proxies that hold streams back, cut silent connections, limit sizes or send "
        "requests to the wrong process.  The service's application gets no messages, except one of "
        "--echo.  The exit status is 1 if something is broken.",
    )
    add_options(parser)
    _add_own_options(parser)
    options = parser.parse_args(arguments)
    try:
        address = Address(options.url)
    except SettingsError as error:
        parser.error(str(error))
    if not options.json:
        message = f"examining {address}; this takes up to {options.silence + options.timeout:g} s"
        print(message, file=sys.stderr)
    findings = asyncio.run(_examine(options, address))
    if options.json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        print("\n".join(finding.as_text() for finding in findings))
    return 1 if any(finding.verdict == "broken" for finding in findings) else 0


def _add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--origin", help="the origin of your page, such as https://example.com")
    parser.add_argument(
        "--page-version", metavar="VERSION", help="the version of sockjs-client in your page: 1.6.1"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=5,
        metavar="SECONDS",
        help="how long a request may take; default: %(default)g",
    )
    parser.add_argument(
        "--silence",
        type=seconds,
        default=35,
        metavar="SECONDS",
        help="how long to wait for heartbeats, longer than heartbeat_delay; default: %(default)g",
    )
    parser.add_argument(
        "--echo",
        metavar="TEXT",
        help="a message that the service sends back: send it on each transport, and wait for it",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


async def _examine(options: argparse.Namespace, address: Address) -> list[Finding]:
    async with new_session(options, shares_connections=False) as session:
        info, findings = await check_info(session, address, options.timeout)
        if info is None:
            return findings
        headers = asyncio.ensure_future(check_headers(session, address, options.origin))
        findings += await guarded("proxies", options.timeout, headers)
        address = info.address
        tls = asyncio.ensure_future(check_tls(address, is_insecure=options.insecure))
        findings += await guarded("tls", options.timeout, tls)
        iframe = asyncio.ensure_future(check_iframe(session, address, options.page_version))
        findings += await guarded("iframe", options.timeout, iframe)
        if any(finding.subject == "origin" and finding.verdict == "ok" for finding in findings):
            session.headers["Origin"] = options.origin  # as all requests of the page
        sends = asyncio.ensure_future(check_sends(session, address, ClientOptions()))
        findings += await guarded("sends", options.timeout * 4, sends)
        checks = [
            TransportCheck(name, session, address, options.timeout, options.silence, options.echo)
            for name in _ALL
        ]
        transports = await asyncio.gather(*(check.run() for check in checks))
        if any(finding.advice is STICKINESS for finding in findings):
            transports = [_without_sends(finding) for finding in transports]
        return findings + list(transports)


def _without_sends(finding: Finding) -> Finding:
    """Return the verdict on a transport whose sends do not find their session."""
    if finding.subject.endswith("websocket") or finding.verdict != "ok":
        return finding
    text = f"{finding.text}, but its sends do not find their session"
    return Finding(finding.subject, "broken", text, STICKINESS)
