"""Examines what has no session: ``/info``, its headers for other origins, and the iframe page."""

import asyncio
import re

import aiohttp
import async_timeout

from sockjs_aio.cli.doctor.findings import UNREACHABLE, Finding
from sockjs_aio.client.address import Address
from sockjs_aio.client.info import Info, ask_info
from sockjs_aio.client.transport import TransportError, failures
from sockjs_aio.errors import ConnectError

_PROXIES = ("Via", "Server", "Age", "X-Cache", "CF-Ray", "X-Amz-Cf-Id")
"""Headers that tell what stands in between."""

_SCRIPT = re.compile(rb'<script src="([^"]*)"')
_VERSION = re.compile(r"sockjs(?:-client)?[@/-]v?(\d+\.\d+\.\d+)")
_SLOW = 1.0
_PAGE_LIMIT = 65536


async def check_info(
    session: aiohttp.ClientSession, address: Address, timeout: float
) -> tuple[Info | None, list[Finding]]:
    """Ask for ``/info``; return what it says, and the findings."""
    try:
        info = await ask_info(session, address, timeout)
    except ConnectError as error:
        return None, [Finding("info", "broken", str(error), UNREACHABLE)]
    findings = [Finding("info", "ok", f"answered in {info.seconds * 1000:.0f} ms")]
    if info.seconds > _SLOW:
        text = f"took {info.seconds:.1f} s: clients wait for it before they try a transport"
        findings = [Finding("info", "note", text)]
    if info.address is not address:
        findings.append(Finding("info", "note", f"its base_url sends clients to {info.address}"))
    if not info.has_websocket:
        text = "says that the service has no WebSockets"
        findings.append(Finding("info", "note", text, ("the setting disabled_transports",)))
    return info, findings


async def check_headers(
    session: aiohttp.ClientSession, address: Address, origin: str | None
) -> list[Finding]:
    """Examine the headers of ``/info``, for a page of `origin` if there is one."""
    headers = {"Origin": origin} if origin else {}
    async with session.get(address.below("/info"), headers=headers) as response:
        got = response.headers
    findings = []
    said = [f"{name}: {got[name]}" for name in _PROXIES if name in got]
    if said:
        findings.append(Finding("proxies", "note", f"the answer has {', '.join(said)}"))
    if origin:
        allowed = got.get("Access-Control-Allow-Origin")
        if allowed in (origin, "*"):
            findings.append(Finding("origin", "ok", f"pages of {origin} may connect"))
        else:
            text = f"pages of {origin} may not connect: Access-Control-Allow-Origin is {allowed!r}"
            advice = (
                f"the setting origins: add {origin!r}",
                "the proxy must not remove or set Access-Control-Allow-Origin",
            )
            findings.append(Finding("origin", "broken", text, advice))
    return findings


async def check_iframe(
    session: aiohttp.ClientSession, address: Address, page_version: str | None
) -> list[Finding]:
    """Compare the script that the iframe page loads with the page's."""
    async with session.get(address.below("/iframe.html")) as response:
        body = await response.content.read(_PAGE_LIMIT)
    found = _SCRIPT.search(body)
    if response.status != 200 or found is None:
        return [Finding("iframe", "note", "there is no iframe page, which few browsers need")]
    url = found[1].decode(errors="replace")
    version = _VERSION.search(url)
    if version is None or page_version is None:
        return [Finding("iframe", "note", f"loads {url}: your page must have the same version")]
    if version[1] == page_version:
        return [Finding("iframe", "ok", f"loads sockjs-client {page_version}, as your page does")]
    text = f"loads sockjs-client {version[1]}, but your page {page_version}"
    advice = (f"the setting sockjs_url: name version {page_version}",)
    return [Finding("iframe", "broken", text, advice)]


async def guarded(
    subject: str, timeout: float, check: "asyncio.Future[list[Finding]]"
) -> list[Finding]:
    """Wait for `check`; if it fails, that is a finding too."""
    try:
        with failures():
            async with async_timeout.timeout(timeout):
                return await check
    except TransportError as error:
        return [Finding(subject, "broken", str(error))]
