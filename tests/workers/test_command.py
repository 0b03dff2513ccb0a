"""The command's options, where it listens, what it logs, and what of it reaches the workers."""

import asyncio
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import async_timeout
import pytest

import sockjs_aio
from sockjs_aio import Workers
from sockjs_aio.cluster.workers.cpus import usable_cpus
from sockjs_aio.cluster.workers.environment import EnvironmentParser
from tests.clients import HTTP, WebSocket, XhrStreaming
from tests.ports import free_port
from tests.process import ROOT
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand
from tests.workers.test_reload_races import children, tell_all, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)

INSPECTED = "tests.workers.inspected:"

NOT_WAITED_FOR = {"shutdown_timeout": 0.5}
"""Sessions whose clients do not fetch their close frame: the end need not wait for them."""


@pytest.fixture
def command(command: RunCommand) -> RunCommand:
    """Run the command in a Python of its own, as a user does."""
    return functools.partial(command, is_fork=False)


async def told_by(served: Command) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await served.ask("/interpreter")).body)
    return answer


# What it is told.


def parser() -> EnvironmentParser:
    made = EnvironmentParser(prog="x")
    made.add_argument("target")
    made.add_argument("--workers", type=int, default=1)
    made.add_argument("--host", action="append")
    made.add_argument("--drain-limit", type=float, default=30)
    made.add_argument("--access-log", action="store_true")
    made.add_argument("--log-level", choices=["info", "debug"], default="info")
    return made


@pytest.mark.parametrize(
    "environment, arguments, expected",
    [
        ({}, [], {"workers": 1, "host": None, "access_log": False}),
        ({"SOCKJS_AIO_WORKERS": "3"}, [], {"workers": 3}),
        ({"SOCKJS_AIO_WORKERS": "3"}, ["--workers", "2"], {"workers": 2}),
        ({"SOCKJS_AIO_WORKERS": "3"}, ["--workers=2"], {"workers": 2}),
        ({"SOCKJS_AIO_DRAIN_LIMIT": "1.5"}, [], {"drain_limit": 1.5}),
        ({"SOCKJS_AIO_HOST": "::1, 127.0.0.1"}, [], {"host": ["::1", "127.0.0.1"]}),
        ({"SOCKJS_AIO_HOST": "::1"}, ["--host", "a"], {"host": ["a"]}),
        ({"SOCKJS_AIO_ACCESS_LOG": "1"}, [], {"access_log": True}),
        ({"SOCKJS_AIO_ACCESS_LOG": "Yes"}, [], {"access_log": True}),
        ({"SOCKJS_AIO_ACCESS_LOG": "0"}, [], {"access_log": False}),
        ({"SOCKJS_AIO_ACCESS_LOG": ""}, [], {"access_log": False}),
        ({"SOCKJS_AIO_HELP": "1", "SOCKJS_AIO_TARGET": "b"}, [], {"target": "a"}),
    ],
)
def test_the_environment_gives_what_the_command_line_does_not(
    environment: dict[str, str], arguments: list[str], expected: dict[str, object]
) -> None:
    made = parser()
    given = made.arguments_of(environment, arguments)
    options = vars(made.parse_args([*given, "a", *arguments]))
    assert {name: options[name] for name in expected} == expected


@pytest.mark.parametrize(
    "name, value",
    [
        ("WORKERS", "tcp://10.0.0.1:80"),  # as Kubernetes makes of the port of a service
        ("WORKERS", ""),
        ("ACCESS_LOG", "perhaps"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_what_the_environment_gives_is_checked_and_named(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = parser()
    with pytest.raises(SystemExit):
        made.parse_args([*made.arguments_of({f"SOCKJS_AIO_{name}": value}, []), "a"])
    assert f"(set by SOCKJS_AIO_{name} in the environment)" in capsys.readouterr().err


def test_a_service_of_kubernetes_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    made = parser()
    with pytest.raises(SystemExit):
        environment = {"SOCKJS_AIO_WORKERS": "tcp://10.0.0.1:80"}
        made.parse_args([*made.arguments_of(environment, []), "a"])
    assert "enableServiceLinks: false" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, hint",
    [
        ("SOCKJS_AIO_WORKER", "did you mean SOCKJS_AIO_WORKERS?"),
        ("SOCKJS_AIO_LOGLEVEL", "did you mean SOCKJS_AIO_LOG_LEVEL?"),
        ("SOCKJS_AIO_DATABASE_PASSWORD", "see x --help"),
        ("SOCKJS_AIO_WORKERS", None),
        ("SOCKJS_AIO_SERVICE_HOST", None),
        ("SOCKJS_AIO_PORT_8080_TCP_ADDR", None),
        ("SOCKJS", None),
    ],
)
def test_a_variable_that_sets_no_option_gets_a_hint(name: str, hint: str | None) -> None:
    expected = [] if hint is None else [f"{name} in the environment sets no option: {hint}"]
    assert list(parser().unknown_in({name: "1"})) == expected


async def test_the_command_takes_its_options_from_the_environment(command: RunCommand) -> None:
    environment = {"SOCKJS_AIO_WORKERS": "3", "SOCKJS_AIO_LOG_FORMAT": "json"}
    environment["SOCKJS_AIO_PROT"] = "8081"
    served = await command(workers=None, environment=environment)
    assert len(await served.worker_wires(3)) == 3
    assert await served.stop() == 0
    lines = [json.loads(line) for line in served.said.splitlines()]
    assert all(line["process"] for line in lines)
    (hint,) = [line["message"] for line in lines if line["level"] == "warning"]
    assert hint.endswith("did you mean SOCKJS_AIO_PORT?")


@pytest.mark.programs
@pytest.mark.parametrize("arguments", [["--version"], ["serve", "--version"]])
def test_the_command_tells_its_version(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "sockjs_aio", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert (run.returncode, run.stdout) == (0, f"sockjs-aio {sockjs_aio.__version__}\n")


async def test_auto_is_a_worker_for_each_cpu(command: RunCommand) -> None:
    cores = usable_cpus()
    served = await command("--workers", "auto", workers=None)
    workers = "worker serves" if cores == 1 else "workers serve"
    assert f"{cores} {workers} http" in served.said
    assert await served.stop() == 0


async def test_one_worker_is_one(command: RunCommand) -> None:
    served = await command(workers=1)
    assert "1 worker serves http" in served.said
    assert await served.stop() == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hang_limit": 1}, "hang_limit=1 must be 2 seconds or more"),
        ({"hang_limit": float("nan")}, "must be 2 seconds or more"),
        ({"lingering_time": -1}, "lingering_time=-1 must be seconds, 0 or more"),
        ({"keepalive_timeout": float("inf")}, "keepalive_timeout=inf must be seconds"),
        ({"loop": "trio"}, "loop='trio' must be one of"),
        ({"log_level": "loud"}, "log_level='loud' must be one of"),
        ({"log_format": "xml"}, "log_format='xml' must be one of"),
        ({"metrics_port": 65536}, "metrics_port=65536 must be a port, 0 to 65535"),
        ({"metrics_port": "9100"}, "metrics_port='9100' must be a port, 0 to 65535"),
    ],
)
def test_workers_refuse_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Workers(1, **options)


# What it logs.


async def test_lines_have_a_time_and_say_which_logger_they_are_from(command: RunCommand) -> None:
    served = await command()
    assert await served.stop() == 0
    for line in served.said.splitlines():
        time, logger = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", r"sockjs_aio(\.[a-z]+)?"
        assert re.match(rf"{time} \[\d+\] {logger} INFO ", line), line


async def test_json_has_each_line_as_an_object(command: RunCommand) -> None:
    served = await command("--log-format", "json", "--access-log")
    await WebSocket.open(served)
    await served.ask("/healthz")
    assert await served.stop() == 0
    records = [json.loads(line) for line in served.said.splitlines()]
    assert {record["level"] for record in records} == {"info"}
    loggers = {"sockjs_aio.workers", "sockjs_aio.session", "aiohttp.access"}
    assert {record["logger"] for record in records} == loggers
    (closed,) = [record for record in records if record["logger"] == "sockjs_aio.session"]
    assert closed["message"].startswith("session ")
    assert (closed["transport"], closed["close_status"]) == ("websocket", "service_restart")
    assert (closed["close_code"], closed["close_initiator"]) == (1012, "shutdown")
    requests = [record for record in records if record["logger"] == "aiohttp.access"]
    assert {record["response_status"] for record in requests} == {101, 200}
    assert not {"args", "msg", "levelno", "taskName"} & {name for x in records for name in x}
    for record in records:
        assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}\+00:00", record["time"])


async def test_json_has_what_python_itself_complains_of(command: RunCommand) -> None:
    served = await command(
        *("--log-format", "json"),
        target=INSPECTED + "make",
        interpreter=("-W", "always:this is old"),
    )
    assert (await served.ask("/carelessness")).status == 200
    assert await served.stop() == 0
    records = [json.loads(line) for line in served.said.splitlines()]
    (warning,) = [record for record in records if record["logger"] == "py.warnings"]
    assert warning["level"] == "warning" and "DeprecationWarning: this is old" in warning["message"]
    thread, finalizer = (record for record in records if record["level"] == "error")
    assert thread["message"] == "thread careless failed"
    assert thread["exception"].endswith("ArithmeticError: in a thread")
    assert "Careless.__del__" in finalizer["message"]
    assert finalizer["exception"].endswith("LookupError: in a finalizer")


async def test_the_level_holds_for_workers_too(command: RunCommand) -> None:
    port = free_port()
    served = await command("--log-level", "warning", "--port", str(port), wait=False)
    served.port = port
    await served.until_listening()
    await served.worker_wires(2)
    assert await served.stop() == 0
    assert served.said == ""


async def test_a_request_is_logged_once_with_its_address(command: RunCommand) -> None:
    served = await command("--access-log", workers=3, settings=NOT_WAITED_FOR)
    paths = []
    for transport in HTTP:
        client: Any = await transport.open(served)
        for number in range(8):
            await client.send_payload(f'["{number}"]')
        await client.leave()
        paths.append(client.path)
    assert await served.stop() == 0
    logged = [line for line in served.said.splitlines() if " HTTP/1.1" in line]
    for path in paths:
        assert len([line for line in logged if f"{path}/" in line and "_send" in line]) == 8
    for line in logged:
        assert "INFO 127.0.0.1 [" in line


# Where it listens.


async def test_it_listens_at_several_addresses(command: RunCommand) -> None:
    port = free_port()
    served = await command(
        *("--host", "127.0.0.1", "--host", "::1", "--host", "localhost", "--port", str(port)),
        wait=False,
    )
    await served.until_said("workers serve")
    assert f"serve http://127.0.0.1:{port}, http://[::1]:{port}" in served.said
    for host in ("127.0.0.1", "[::1]"):
        for _ in range(4):
            async with served.session.get(f"http://{host}:{port}/loaded") as answer:
                assert answer.status == 200
    assert await served.stop() == 0


async def test_any_port_is_the_same_at_all_addresses(command: RunCommand) -> None:
    served = await command("--host", "::1", "--host", "127.0.0.1", wait=False)
    said = await served.until_said(r"serve http://\[::1\]:(\d+), http://127.0.0.1:(\d+)")
    assert said[1] == said[2]
    assert await served.stop() == 0


async def test_it_listens_at_a_unix_socket(command: RunCommand, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    for left_over in (False, True):
        if left_over:
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(path)
        served = await command("--unix", path, wait=False, settings=NOT_WAITED_FOR)
        await served.until_said(f"workers serve unix:{path}")
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession(connector=connector) as client:
            async with client.post("http://a/echo/0/a/xhr") as answer:
                assert await answer.text() == "o\n"
            async with client.post("http://a/echo/0/a/xhr_send", data='["x"]') as answer:
                assert answer.status == 204
            async with client.post("http://a/echo/0/a/xhr") as answer:
                assert await answer.text() == 'a["x"]\n'
        second = await command("--unix", path, wait=False)
        assert await second.ended() == 2
        assert f"cannot listen at {path}: Address already in use" in second.said
        assert await served.stop() == 0
        assert os.listdir(tmp_path) == []


async def test_a_file_in_the_place_of_a_unix_socket_is_kept(
    command: RunCommand, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    served = await command("--unix", str(path), wait=False)
    assert await served.ended() == 2
    assert path.read_text() == "precious"


async def test_it_takes_a_socket_that_is_open(command: RunCommand) -> None:
    """As systemd passes them; it stays open through a restart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        for _ in range(2):
            served = await command("--fd", str(number), pass_fds=(number,), settings=NOT_WAITED_FOR)
            assert served.port == listener.getsockname()[1]
            for transport in (WebSocket, XhrStreaming):
                client: Any = await transport.open(served)
                await client.send("x")
                assert await client.messages(1) == ["x"]
                await client.leave()
            assert await served.stop() == 0


async def test_it_takes_a_socket_in_the_place_of_stdin(command: RunCommand) -> None:
    """As supervisord passes it."""
    become = "import os, sys; os.dup2(int(sys.argv[1]), 0); os.execv(sys.argv[2], sys.argv[2:])"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        through = (sys.executable, "-c", become, str(number))
        served = await command("--fd", "0", through=through, pass_fds=(number,), workers=1)
        assert served.port == listener.getsockname()[1]
        assert await served.poll("/0/1") == b"o"
        assert await served.stop() == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--fd", "77"), "cannot listen at file descriptor 77: Bad file descriptor"),
        (("--fd", "2"), "cannot listen at file descriptor 2: Socket operation on non-socket"),
        (("--unix", "/nowhere/at/all"), "cannot listen at /nowhere/at/all: No such file"),
        (("--unix", "/tmp/" + "a" * 120), "a: AF_UNIX path too long"),
        (("--host", "nowhere.invalid"), "cannot listen at host 'nowhere.invalid'"),
        (("--loop", "trio"), "invalid choice: 'trio'"),
        (("--workers", "many"), "argument --workers: 'many' must be an integer or auto"),
        (("--workers", "0"), "Workers(0): count must be a positive integer"),
        (("--metrics-port", "-1"), "metrics_port=-1 must be a port, 0 to 65535"),
        (
            ("--metrics-port", "9100", "--metrics-host", "192.0.2.1"),
            "cannot answer for metrics at 192.0.2.1:9100: Cannot assign requested address",
        ),
    ],
)
async def test_what_cannot_be_listened_at_is_said(
    command: RunCommand, arguments: tuple[str, ...], message: str
) -> None:
    served = await command(*arguments, workers=None, wait=False)
    assert await served.ended() == 2
    assert message in served.said
    assert "Traceback" not in served.said


async def test_a_long_temporary_directory_is_replaced(command: RunCommand, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 100)
    long.mkdir()
    served = await command(workers=3, temporary=long)
    client: Any = await XhrStreaming.open(served)
    for number in range(9):
        await client.send(str(number))
        assert await client.messages(1) == [str(number)]
    assert os.listdir(long) == []
    assert await served.stop() == 0
    assert not served.has_failed, served.said


# What reaches the workers.


async def test_options_of_the_interpreter_reach_workers(command: RunCommand) -> None:
    options = (
        "-X",
        "dev",
        "-W",
        "error::UserWarning",
        "-O",
        "-X",
        "mine=1",
        "-X",
        "int_max_str_digits=0",
    )
    served = await command(target=INSPECTED + "make", interpreter=options)
    told = await told_by(served)
    assert told["flags"] == [True, 1, 0]
    assert "error::UserWarning" in told["warnings"]
    assert told["debug"]
    assert {"mine": "1", "int_max_str_digits": "0"}.items() <= told["x_options"].items()
    assert await served.stop() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_loop_can_be_chosen(command: RunCommand, loop: str) -> None:
    pytest.importorskip("uvloop")
    served = await command("--loop", loop, target=INSPECTED + "make")
    assert (await told_by(served))["loop"].partition(".")[0] == loop
    client = await XhrStreaming.open(served)
    assert await served.stop() == 0
    assert await client.frame() == b'c[1012,"Service restart"]'


SCRIPT = """
import sys
sys.path.insert(0, {path!r})
sys.path.append("/somewhere/else")
from sockjs_aio import Drain, Workers
{more}
if __name__ == "__main__":
    Workers(2, drain=Drain(notice=0, over=0)).run({target!r}, port=0)
"""


async def script(tmp_path: Path, target: str, more: str = "") -> Command:
    """Run a script of a user's, in another directory."""
    file = tmp_path / "run.py"
    file.write_text(SCRIPT.format(path=str(ROOT), target=target, more=more))
    served = Command(0, "/echo")
    served.process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(file)),
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=tmp_path,
    )
    served._reading = asyncio.create_task(served._read())  # type: ignore[attr-defined]
    return served


@pytest.mark.programs
@pytest.mark.parametrize("more", ["", "import uvloop; uvloop.install()"])
async def test_the_path_and_the_policy_of_a_script_reach_workers(tmp_path: Path, more: str) -> None:
    if more:
        pytest.importorskip("uvloop")
    configured = f"{more}\nimport logging; logging.basicConfig(level='INFO')"
    served = await script(tmp_path, INSPECTED + "make", configured)
    said = await served.until_said(r"serve http://127\.0\.0\.1:(\d+)")
    served.port = int(said[1])
    told = await told_by(served)
    assert told["path"][0] == str(ROOT) and told["path"][-1] == "/somewhere/else"
    assert told["loop"].partition(".")[0] == ("uvloop" if more else "asyncio")
    assert await served.stop() == 0


@pytest.mark.programs
async def test_signals_to_all_processes_leave_workers_of_a_script_alone_that_start(
    tmp_path: Path,
) -> None:
    """Also if uvloop would start them."""
    pytest.importorskip("uvloop")
    configured = "import logging, uvloop; uvloop.install(); logging.basicConfig(level='INFO')"
    served = await script(tmp_path, INSPECTED + "make", configured)
    assert served.process is not None
    process = served.process
    await until(lambda: len(children(process)) == 2)
    tell_all(children(process))
    await served.until_said(r"serve http://127\.0\.0\.1:(\d+)")
    assert await served.stop() == 0
    assert "died" not in served.said


@pytest.mark.programs
async def test_a_script_ends_with_a_status_that_tells(tmp_path: Path) -> None:
    served = await script(tmp_path, INSPECTED + "make_without_variable")
    assert await served.ended() == 1
    assert "KeyError: 'NOT_THERE'" in served.said


@pytest.mark.programs
@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("how", ["command", "script"])
async def test_workers_need_no_standard_streams(how: str, closed: str, tmp_path: Path) -> None:
    """No worker has a socket in their place."""
    served = Command(free_port(), "/echo")
    target, port = INSPECTED + "make", str(served.port)
    if how == "command":
        program = ["-m", "sockjs_aio", "serve", target, "--port", port, "--drain-notice", "0"]
    else:
        file = tmp_path / "run.py"
        text = SCRIPT.replace("port=0", f"port={port}")
        file.write_text(text.format(path=str(ROOT), target=target, more=""))
        program = [str(file)]
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *program), cwd=ROOT
    )
    try:
        await served.until_listening()
        async with async_timeout.timeout(PATIENCE):
            assert await served.poll("/0/1") == b"o"
        for worker in children(process):
            for number in range(3):
                assert "socket" not in os.readlink(f"/proc/{worker}/fd/{number}")
    finally:
        await served.hang_up()
        process.terminate()
        assert await process.wait() == 0


STOPPED = """
import functools, logging, os, signal

class Stopping(logging.Handler):
    def emit(self, _):
        logger.removeHandler(self)
        os.kill(os.getpid(), signal.{name})

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to ignore that
logger = logging.getLogger("sockjs_aio.workers")
logging.basicConfig()
logger.addHandler(Stopping())  # the first line tells of metrics, before the supervisor runs
logger.setLevel("INFO")
Workers = functools.partial(Workers, metrics_port=0)
"""


@pytest.mark.programs
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
async def test_a_signal_before_the_supervisor_runs_ends_it_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("prometheus_client")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    served = await script(tmp_path, INSPECTED + "make", STOPPED.replace("{name}", name))
    assert await served.ended() == 0, served.said
    assert f"{name}: shutting down" in served.said
    assert not list(temporary.iterdir())


STOPPED_AGAIN = """
import os, shutil, signal
remove = shutil.rmtree

def stop_and_remove(*args, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    remove(*args, **options)

shutil.rmtree = stop_and_remove
"""


@pytest.mark.programs
async def test_a_signal_after_the_supervisor_has_run_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    more = STOPPED_AGAIN + "import logging; logging.basicConfig(level='INFO')"
    served = await script(tmp_path, INSPECTED + "make", more)
    await served.until_said(r"serve http://127\.0\.0\.1:(\d+)")
    assert await served.stop() == -signal.SIGTERM
    assert not list(temporary.iterdir())


# Applications that cannot start.


@pytest.mark.parametrize(
    "factory, message, workers",
    [
        ("make_without_variable", "KeyError: 'NOT_THERE'", 1),
        ("make_without_variable", "KeyError: 'NOT_THERE'", 3),
        ("make_and_exit", "exited: DATABASE_URL is not set", 3),
        ("make_without_database", "ConnectionRefusedError: no database at db:5432", 3),
        ("make_with_argument", "missing 1 required positional argument: 'config'", 3),
    ],
)
async def test_a_factory_that_fails_is_told_of_once(
    command: RunCommand, factory: str, message: str, workers: int
) -> None:
    served = await command(target=INSPECTED + factory, workers=workers, wait=False)
    assert await served.ended() == 1
    assert served.said.count(message) == 1, served.said
    assert "cannot start: " in served.said
    for place in ("sockjs_aio/", "aiohttp/", "importlib"):
        assert place not in served.said.replace("tests/workers", "")


# What hooks start.


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_fork_of_a_hook_can_be_terminated_and_ends_nothing_else(
    command: RunCommand, loop: str
) -> None:
    served = await command("--loop", loop, target=INSPECTED + "make", workers=1)
    client = await WebSocket.open(served)
    for name, status in (("SIGTERM", -15), ("SIGHUP", -1), ("SIGINT", None)):
        await client.send(name)
        (code,) = await client.messages(1)
        assert code != "None" and (status is None or int(code) == status), name
        await client.send(name)
        assert len(await client.messages(1)) == 1, name  # the session is still there
    assert await served.stop() == 0


# Bodies that nobody has asked for.


async def test_a_bomb_at_another_url_keeps_nobody_waiting(command: RunCommand) -> None:
    """The rest of a body is not unpacked once the answer is there."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(bytes(64 << 20)) + packer.flush()
    served = await command(workers=1)
    wire = await served.wire()
    head = (
        "POST /favicon.ico HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(bomb) + 1}\r\n\r\n"
    )
    wire.writer.write(head.encode() + bomb)
    assert (await wire.reply()).status == 404
    assert await wire.is_closed()  # with a lingering time it waits for the last byte
    assert await served.stop() == 0


async def test_an_idle_connection_is_closed_when_it_is_told(command: RunCommand) -> None:
    served = await command("--keepalive-timeout", "0.2", workers=1)
    wire = await served.wire()
    assert (await wire.request("GET", "/healthz")).status == 200
    assert await wire.is_closed()
    assert await served.stop() == 0
