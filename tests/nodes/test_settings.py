"""What `Nodes` takes, and what it refuses."""

import os
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import Nodes, SettingsError
from tests.nodes.processes import SECRET
from tests.process import ROOT

REDIS = "redis://127.0.0.1:1"
GOOD: dict[str, Any] = {"url": "http://10.0.0.5:8080", "secret": SECRET}


@pytest.mark.parametrize(
    "url", ["http://10.0.0.5:8080", "http://[::1]:80/", "https://node-1.example", b"x" * 20]
)
def test_what_can_be_used(url: Any) -> None:
    options = {**GOOD, **({"secret": url} if isinstance(url, bytes) else {"url": url})}
    assert Nodes(REDIS, **options).state == "stopped"


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"url": "10.0.0.5:8080"}, "must be like"),
        ({"url": "ftp://10.0.0.5"}, "must be like"),
        ({"url": "http://"}, "must be like"),
        ({"url": "http://a:99999"}, "out of range"),
        ({"url": "http://a/echo"}, "nothing else"),
        ({"url": "http://user:word@a"}, "nothing else"),
        ({"url": "http://a?b"}, "nothing else"),
        ({"url": "http://0.0.0.0:8080"}, "an address to listen at"),
        ({"url": "http://10.0.0.5%:8080"}, "must not have a %"),
        ({"url": " http://a"}, "whitespace"),
        ({"url": None}, "url=None"),
        ({"secret": "short"}, "to make one"),
        ({"secret": 12345678901234567890}, "str or bytes"),
        ({"namespace": "\u00fc"}, "ASCII"),
        ({"namespace": None}, "ASCII"),
        ({"expiry": 0}, "expiry=0"),
        ({"lease": "60"}, "lease='60'"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"lease": 5, "expiry": 5}, "longer than"),
        ({"timeout": 5.5, "expiry": 5}, "timeout=5.5 must not be longer than expiry=5"),
    ],
)
def test_what_cannot_be_used_is_named(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Nodes(REDIS, **{**GOOD, **options})


def test_the_password_of_redis_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        Nodes("http://user:word@127.0.0.1", **GOOD)
    assert "word" not in str(caught.value)
    assert SECRET not in repr(Nodes(REDIS, **GOOD))


def test_it_is_attached_once() -> None:
    app = web.Application()
    nodes = Nodes(REDIS, **GOOD)
    nodes.attach(app)
    with pytest.raises(RuntimeError, match="once"):
        nodes.attach(web.Application())
    with pytest.raises(RuntimeError, match="an application can have only one"):
        Nodes(REDIS, **GOOD).attach(app)
    app.freeze()
    with pytest.raises(RuntimeError, match="before the application starts"):
        Nodes(REDIS, **GOOD).attach(app)


def test_redis_py_is_asked_for_if_it_is_missing() -> None:
    program = "import sys; sys.modules['redis'] = None; import sockjs_aio as s; print(s.Nodes)\n"
    program += f"s.Nodes('redis://x', **{GOOD!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "<class 'sockjs_aio.cluster.nodes.nodes.Nodes'>\n"
    assert "Nodes needs redis-py: pip install 'sockjs-aio[redis]'" in done.stderr


def app_with_nodes() -> web.Application:
    app = web.Application()
    Nodes(REDIS, **GOOD).attach(app)
    return app


def test_workers_refuse_an_application_with_nodes() -> None:
    command = [
        sys.executable,
        "-m",
        "sockjs_aio",
        "serve",
        "tests.nodes.test_settings:app_with_nodes",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--port", "0"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 1
    assert "Workers cannot serve an application with Nodes" in done.stderr
    assert "Traceback" not in done.stderr
