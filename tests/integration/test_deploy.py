"""The files in examples/deploy are valid, agree with the code, and their commands serve."""

import asyncio
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import async_timeout
import pytest

from examples import deploy
from sockjs_aio import Drain, Settings
from tests.brokers.conftest import redis_server as redis_server
from tests.brokers.redis_server import RedisServer, note_known
from tests.integration.haproxy import find_program
from tests.ports import free_port
from tests.process import PATIENCE, ROOT
from tests.require import require
from tests.target import Target
from tests.test_docs import blocks
from tests.workers.test_service_manager import LAUNCH, Manager

DEPLOY = ROOT / "examples/deploy"
PAGE = ROOT / "docs/deployment.md"
PYTHON = "/srv/sockjs/venv/bin/python"


def yaml_documents(text: str) -> list[Any]:
    require(importlib.util.find_spec("yaml"), "PyYAML")
    import yaml

    return list(yaml.safe_load_all(text))


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a command: ``await start(["python", ...], cwd=..., environment={...})``."""
    started: list[asyncio.subprocess.Process] = []

    async def run(command: list[str], **options: Any) -> asyncio.subprocess.Process:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *command, env=kept | options.pop("environment", {}), **options
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_ready(port: int) -> Target:
    target = Target(port, "/news")
    async with async_timeout.timeout(3 * PATIENCE):
        while True:
            try:
                if (await target.ask("/readyz")).status == 200:
                    return target
            except OSError:
                await asyncio.sleep(0.05)


async def end(process: asyncio.subprocess.Process, target: Target) -> None:
    await target.hang_up()
    process.send_signal(signal.SIGTERM)
    async with async_timeout.timeout(3 * PATIENCE):
        assert await process.wait() == 0


def longest_stop(drain: Drain) -> float:
    """Return how long `run_app` may take to stop, as docs/deployment.md explains it."""
    hooks = Settings().shutdown_timeout + 2
    handlers = 2 * 10  # `run_app`'s shutdown_timeout, twice
    return drain.limit + hooks + handlers


# systemd.


def unit() -> str:
    return (DEPLOY / "sockjs.service").read_text()


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    require(analyze, "systemd-analyze")
    text = unit().replace(PYTHON, sys.executable).replace("/srv/sockjs", str(ROOT))
    (tmp_path / "sockjs.service").write_text(text)
    shutil.copy(DEPLOY / "sockjs.socket", tmp_path)
    command = [str(analyze), "verify", *map(str, tmp_path.glob("sockjs.*"))]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_the_units_have_the_lines_that_are_documented() -> None:
    shown = "".join(blocks(PAGE, "ini")).splitlines()
    files = unit() + (DEPLOY / "sockjs.socket").read_text()
    assert len(shown) > 10
    assert set(shown) <= set(files.splitlines()) | {""}


async def test_the_command_of_the_unit_serves_and_tells_systemd(
    start: Start, tmp_path: Path
) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit(), re.M)
    command = shlex.split(line.replace(PYTHON, sys.executable))
    (variable,) = re.findall(r"^Environment=(.*)$", unit(), re.M)
    told = Manager(str(tmp_path / "notify"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, number = listener.getsockname()[1], listener.fileno()
        process = await start(
            [sys.executable, "-c", LAUNCH, str(number), *command],
            cwd=ROOT,
            environment=dict([variable.split("=")]) | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
            pass_fds=(number,),
            stderr=subprocess.PIPE,
        )
        assert f"http://127.0.0.1:{port}" in (await told.hear("READY"))["STATUS"]
        target = await until_ready(port)
        await end(process, target)
    told.socket.close()
    for line in (await process.stderr.read()).splitlines():
        assert json.loads(line)["level"] == "info"


# Docker.


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def said(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_the_dockerfile_has_instructions_that_there_are() -> None:
    known = [
        "CMD",
        "COPY",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "RUN",
        "STOPSIGNAL",
        "USER",
        "WORKDIR",
    ]
    assert {word for word, _ in instructions()} <= set(known)
    assert instructions()[0][0] == "FROM"
    (install,) = [line for line in said("RUN") if line.startswith("pip install")]
    project = (ROOT / "pyproject.toml").read_text()
    (extras,) = re.findall(r"\.\[(.*)\]", install)
    assert set(extras.split(",")) <= set(re.findall(r"^(\w+) = \[", project, re.M))
    version = said("FROM")[0].removeprefix("python:").removesuffix("-slim")
    assert f"Programming Language :: Python :: {version}" in project
    assert said("USER") != ["root"]


async def test_what_the_dockerfile_copies_serves_and_is_healthy(
    start: Start, tmp_path: Path
) -> None:
    for line in said("COPY"):
        *sources, place = line.split()
        for source in sources:
            path = tmp_path / place / source if place == "./" else tmp_path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, path)
    port = str(free_port())
    environment = {k: v for line in said("ENV") for k, v in (x.split("=") for x in line.split())}
    assert environment["SOCKJS_AIO_PORT"] in said("EXPOSE")
    environment |= {"SOCKJS_AIO_PORT": port, "SOCKJS_AIO_HOST": "127.0.0.1"}
    (command,) = map(json.loads, said("CMD"))
    process = await start([sys.executable, *command[1:]], cwd=tmp_path, environment=environment)
    target = await until_ready(int(port))
    (check,) = said("HEALTHCHECK")
    _, _, arguments = check.partition(" CMD ")
    healthy = json.loads(arguments.replace("8080", port))
    assert await (await start([sys.executable, *healthy[1:]])).wait() == 0
    assert said("STOPSIGNAL") == ["SIGTERM"]
    await end(process, target)


def compose() -> dict[str, Any]:
    (document,) = yaml_documents((DEPLOY / "compose.yaml").read_text())
    services: dict[str, Any] = document["services"]
    return services


def test_what_compose_names_exists() -> None:
    services = compose()
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy" and "healthcheck" in services[other]
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).is_file()
    context = DEPLOY / services["one"]["build"]["context"]
    assert (context / services["one"]["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert services["one"] == services["two"] == services["three"]
    assert services["one"]["command"] == ["python", "-m", "examples.deploy"]
    assert set(services["one"]["environment"]) <= variables_of_the_example()
    grace = float(services["one"]["stop_grace_period"].removesuffix("s"))
    assert grace >= longest_stop(Drain()) - 10  # without handlers that wait twice


def test_haproxy_accepts_what_compose_gives_it() -> None:
    haproxy = find_program("haproxy")
    require(haproxy, "haproxy")
    service = compose()["haproxy"]
    ports = {name.split(":")[0]: free_port() for name in service["environment"].values()}
    addresses = {
        name: f"127.0.0.1:{ports[value.split(':')[0]]}"
        for name, value in service["environment"].items()
    }
    for value in service["environment"].values():
        host, port = value.split(":")
        assert compose()[host]["environment"]["PORT"] == port
    files = {x.split(":")[1]: DEPLOY / x.split(":")[0] for x in service["volumes"]}
    arguments = [str(files.get(word, word)) for word in service["command"][1:]]
    text = Path(files["/etc/haproxy/common.cfg"]).read_text()
    assert set(re.findall(r"presetenv (SOCKJS_\w+)", text)) >= set(addresses)
    subprocess.run([str(haproxy), "-c", *arguments], env=addresses, check=True)


# Kubernetes.


def manifests() -> dict[str, Any]:
    documents = yaml_documents((DEPLOY / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


def container() -> dict[str, Any]:
    (made,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(made)


def values() -> dict[str, str]:
    return {x["name"]: x["value"] for x in container()["env"] if "value" in x}


def variables_of_the_example() -> set[str]:
    source = (DEPLOY / "__init__.py").read_text() + (DEPLOY / "__main__.py").read_text()
    return set(re.findall(r'"([A-Z][A-Z_]+)"', source)) - {"INFO"}


def test_kubernetes_accepts_the_manifests_and_the_documented_ingress() -> None:
    require(importlib.util.find_spec("kubernetes_validate"), "kubernetes-validate")
    import kubernetes_validate

    (ingress,) = [x for x in blocks(PAGE, "yaml") if "kind: Ingress" in x]
    for document in [*manifests().values(), *yaml_documents(ingress)]:
        version = kubernetes_validate.latest_version()
        kubernetes_validate.validate(document, version, strict=True)
    broken = manifests()["Deployment"]
    broken["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_the_manifests_fit_each_other() -> None:
    found = manifests()
    pod = found["Deployment"]["spec"]["template"]
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
    ):
        assert selector.items() <= pod["metadata"]["labels"].items()
    (port,) = container()["ports"]
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert str(port["containerPort"]) == values()["PORT"]
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert container()[kind]["httpGet"]["port"] == port["name"]
    assert {x["name"] for x in container()["env"]} == variables_of_the_example()


def test_a_pod_has_the_time_that_its_end_takes() -> None:
    spec = manifests()["Deployment"]["spec"]["template"]["spec"]
    drain = deploy.drain(values())
    assert drain.notice + drain.over + Settings().shutdown_timeout + 1 <= drain.limit
    assert spec["terminationGracePeriodSeconds"] >= longest_stop(drain)
    assert "lifecycle" not in container(), "a preStop would count towards the same time"
    probe = container()["readinessProbe"]
    assert drain.notice > probe["periodSeconds"] * probe["failureThreshold"] + 1


def test_a_node_tells_the_address_of_its_pod() -> None:
    (address,) = [x for x in container()["env"] if x["name"] == "POD_IP"]
    assert address["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert deploy.node_url({"POD_IP": "10.1.2.3", "PORT": "80"}) == "http://10.1.2.3:80"
    assert deploy.node_url({"POD_IP": "fd00::7"}) == "http://[fd00::7]:8080"


@pytest.mark.redis
async def test_pods_answer_their_probes_and_find_each_others_sessions(
    start: Start, redis_server: RedisServer
) -> None:
    note_known(redis_server)
    secrets = {"REDIS": redis_server.url, "NODES_SECRET": "0123456789abcdef"}
    command = container()["command"]
    pods: list[tuple[asyncio.subprocess.Process, Target]] = []
    for _ in range(2):
        port = free_port()
        own = {"POD_IP": "127.0.0.1", "PORT": str(port), "DRAIN_NOTICE": "0", "DRAIN_OVER": "0"}
        environment = values() | secrets | own
        process = await start([sys.executable, *command[1:]], cwd=ROOT, environment=environment)
        pods.append((process, await until_ready(port)))
    (_, one), (_, two) = pods
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert (await one.ask(container()[kind]["httpGet"]["path"])).status == 200
    assert await one.poll("/0/deploy") == b"o"
    assert await two.post("/0/deploy", '["x"]') == 204
    assert await one.poll("/0/deploy") == b'a["x"]'
    for process, target in pods:
        await end(process, target)
