"""Examines TLS, and which version of HTTP browsers use."""

import asyncio
import ssl

from sockjs_aio.cli.doctor.findings import Finding
from sockjs_aio.client.address import Address

_SIX = "browsers use HTTP/1.1, where all tabs of a browser share six connections"
_ADVICE = ("let the proxy offer HTTP/2, see docs/deployment.md",)


async def check_tls(address: Address, *, is_insecure: bool) -> list[Finding]:
    """Connect as browsers do, without a forward proxy; return what was agreed on."""
    if not address.is_secure:
        text = f"none: anyone on the network path can read everything; {_SIX}"
        return [Finding("tls", "note", text, _ADVICE)]
    context = ssl.create_default_context()
    if is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    url = address.below("/info")
    try:
        _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
    except OSError as error:  # a forward proxy may be the only way
        return [Finding("tls", "note", f"not examined: {error}")]
    agreed = writer.get_extra_info("ssl_object")
    writer.close()
    if agreed.selected_alpn_protocol() == "h2":
        return [Finding("tls", "ok", f"{agreed.version()}; browsers use HTTP/2")]
    return [Finding("tls", "note", f"{agreed.version()}; {_SIX}", _ADVICE)]
