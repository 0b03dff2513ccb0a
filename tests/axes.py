"""Axes: the same tests in other surroundings, each an option of pytest.

``--tls`` has the server speak TLS, ``--loop`` chooses the event loop and how it makes tasks,
``--middleware`` puts a middleware in front of the service, and ``--proxy`` a reverse proxy.
``--lane on`` has the direct lane answer what it can, from the first byte of a connection on, and
``--lane off`` has aiohttp answer everything.  ``--workers handing-over`` has the workers of a test
hand connections over to each other, as real ones do; ``--lane`` may come with it.  A test that an
axis makes no sense for says so with ``@pytest.mark.not_over("tls")``, and why in a comment.
With ``AIOHTTP_NO_EXTENSIONS=1`` in the environment, aiohttp runs without its C extensions.
"""

import asyncio
import os
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import SockJSRouter
from tests.certificate import contexts, make_certificate
from tests.lanes import begin_with_lanes
from tests.sharing_proxy import SharingProxy
from tests.virtual_loop import VirtualLoop

LOOPS = ("asyncio", "uvloop", "eager", "debug")
MIDDLEWARES = ("none", "replacing")
PROXIES = ("none", "sharing")
WORKERS = ("relaying", "handing-over")
LANES = {"auto": None, "on": True, "off": False}
OF_SERVERS = {"tls", "replacing", "sharing", "lane-on", "lane-off"}
"""What only those tests are changed by that ask for the fixture `serve`, or for `axes` itself."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Axes:
    """What the surroundings of this run are."""

    server_tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None
    certificate: Path | None = None
    """What `server_tls` was made of, for servers in processes of their own."""
    middleware: str = "none"
    proxy: str = "none"
    lane: str = "auto"

    @property
    def router_options(self) -> dict[str, Any]:
        """What to make routers with."""
        return {} if self.lane == "auto" else {"direct_requests": LANES[self.lane]}

    @property
    def arguments(self) -> list[str]:
        """What to tell a server in a process of its own: its certificate, if it has one."""
        return [str(self.certificate)] if self.certificate else []

    def add_middlewares(self, app: web.Application) -> None:
        """Put the middleware of this run in front of `app`."""
        if self.middleware == "replacing":
            app.middlewares.append(replacing)

    def prepare(self, runner: web.AppRunner, router: SockJSRouter) -> None:
        """Prepare a server that does not listen yet."""
        if self.lane == "on":
            begin_with_lanes(runner, router)

    async def start_proxy(self, port: int) -> SharingProxy | None:
        """Put the proxy of this run in front of the server at `port`."""
        if self.proxy == "none":
            return None
        proxy = SharingProxy(port)
        await proxy.start()
        return proxy


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("axes", "axes: the same tests in other surroundings")
    group.addoption("--loop", choices=LOOPS, default="asyncio")
    group.addoption("--tls", action="store_true", help="the server speaks TLS")
    group.addoption("--middleware", choices=MIDDLEWARES, default="none")
    group.addoption("--proxy", choices=PROXIES, default="none")
    group.addoption("--lane", choices=LANES, default="auto")
    group.addoption("--workers", choices=WORKERS, default="relaying")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "not_over(axis, ...): a test that an axis is not for")
    config.addinivalue_line("markers", "virtual_time: waits for timers in no time; not on uvloop")
    if config.getoption("--tls"):
        # asyncio ends TLS in several turns, which the end of a test's loop does not wait for
        config.addinivalue_line("filterwarnings", "default:unclosed:ResourceWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what an axis is not for, and what it would not change."""
    chosen = set()
    if config.getoption("--tls"):
        chosen.add("tls")
    if os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        chosen.add("no-extensions")
    chosen |= {config.getoption(f"--{axis}") for axis in ("middleware", "loop", "proxy", "workers")}
    chosen.add(f"lane-{config.getoption('--lane')}")
    is_of_servers = bool(chosen & OF_SERVERS)
    left_out = []
    for item in items:
        excluded = {name for mark in item.iter_markers("not_over") for name in mark.args}
        knows_axes = "axes" in getattr(item, "fixturenames", ())
        if chosen & excluded or (is_of_servers and not knows_axes):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    name = config.getoption("--loop")
    if name == "uvloop":
        import uvloop

        return {name: uvloop.new_event_loop}
    make = VirtualLoop if item.get_closest_marker("virtual_time") else asyncio.new_event_loop
    prepare = {"eager": _make_eager, "debug": _make_debug}.get(name)
    return {name: make if prepare is None else lambda: prepare(make())}


def _make_eager(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    if sys.version_info < (3, 12):
        pytest.exit("--loop eager needs Python 3.12", returncode=4)
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def make_tasks_eager() -> None:
    """Have the running loop start tasks where they are made, if it can do that (Python 3.12).

    uvloop cannot on 3.13.0, whose factory does not take what uvloop passes on.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12) and isinstance(loop, asyncio.BaseEventLoop):
        loop.set_task_factory(asyncio.eager_task_factory)


def _make_debug(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    loop.set_debug(True)
    loop.slow_callback_duration = 60  # a busy machine is not what is looked for
    return loop


@pytest.fixture(scope="session")
def axes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Axes:
    """The surroundings of this run."""
    middleware = request.config.getoption("--middleware")
    proxy = request.config.getoption("--proxy")
    lane = request.config.getoption("--lane")
    if not request.config.getoption("--tls"):
        return Axes(middleware=middleware, proxy=proxy, lane=lane)
    assert proxy == "none", "the proxy does not speak TLS"
    directory: Path = tmp_path_factory.mktemp("certificate")
    certificate = make_certificate(directory)
    return Axes(*contexts(certificate), certificate, middleware, lane=lane)


@web.middleware
async def replacing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with a response of its own that says the same, where the first has not begun."""
    response = await handler(request)
    if not isinstance(response, web.Response) or response.prepared:
        return response
    copy = web.Response(
        status=response.status,
        reason=response.reason,
        body=response.body,
        headers=response.headers,
    )
    if response.keep_alive is False:
        copy.force_close()
    return copy
