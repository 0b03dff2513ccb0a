"""The options that commands for a URL share, and the HTTP session that they ask for."""

import argparse
import urllib.request

import aiohttp

from sockjs_aio.client import TRANSPORTS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the URL, and how to get there."""
    parser.add_argument("url", metavar="URL", help="the service, such as https://example.com/chat")
    parser.add_argument(
        *("-H", "--header"),
        action="append",
        default=[],
        type=_header,
        metavar="HEADER",
        help="a header of all requests, such as 'Authorization: Bearer x'; you may repeat it",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="accept any certificate, for tests of your own"
    )


def add_transports(parser: argparse.ArgumentParser) -> None:
    """Add the choice of transports."""
    parser.add_argument(
        "--transport",
        action="append",
        choices=("rawwebsocket", *TRANSPORTS),
        help="use this transport; repeat the option for several, in the order to try them",
    )


def seconds(text: str) -> float:
    """Return the seconds that an option gives."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds above 0")
    return number


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name.strip() or not colon or set(text) & set("\r\n\0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a header: write it as 'Name: value'")
    return name.strip(), value.strip()


def new_session(
    options: argparse.Namespace, *, shares_connections: bool = True
) -> aiohttp.ClientSession:
    """Make the session; call it in a coroutine.  Proxies are those of the environment.

    Args:
        options: The options that were given.
        shares_connections: Whether a request may use the connection of an earlier one.
    """
    proxies = urllib.request.getproxies()
    # forward proxies end connections without a word, which aiohttp would use for the next send
    is_through_proxy = "http" in proxies and options.url.startswith("http:")
    return aiohttp.ClientSession(
        headers=options.header,
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        connector=aiohttp.TCPConnector(
            ssl=not options.insecure, force_close=not shares_connections or is_through_proxy
        ),
        trust_env=bool(proxies),  # to look there takes time at each request
    )
