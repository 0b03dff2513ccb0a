"""A Unix socket belongs to whom it should, and outlives a reload but not its server."""

import os
import pwd
import socket
import stat
from pathlib import Path

import pytest

from sockjs_aio.cluster.workers.unix_socket import UnixSocket
from tests.workers.commanding import PATIENCE
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.timeout(3 * PATIENCE)

IS_ROOT = os.geteuid() == 0
OWN = pwd.getpwuid(os.geteuid())


def test_its_permissions_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for umask in (0, 0o077):
        before = os.umask(umask)
        try:
            with UnixSocket(str(path), 0o640).listen(1):
                assert stat.S_IMODE(path.stat().st_mode) == 0o640
                assert os.umask(umask) == umask
        finally:
            os.umask(before)
        UnixSocket(str(path)).remove()
        assert not path.exists()


@pytest.mark.parametrize("owner", [OWN.pw_name, f"{OWN.pw_uid}:{OWN.pw_gid}", f":{OWN.pw_gid}"])
def test_it_can_belong_to_a_user_and_a_group(tmp_path: Path, owner: str) -> None:
    path = tmp_path / "s"
    with UnixSocket(str(path), owner=owner).listen(1):
        assert (path.stat().st_uid, path.stat().st_gid) == (OWN.pw_uid, OWN.pw_gid)


@pytest.mark.skipif(not IS_ROOT, reason="only root may give files away")
def test_it_can_be_given_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    nobody = pwd.getpwnam("nobody")
    with UnixSocket(str(path), owner="nobody").listen(1):
        assert (path.stat().st_uid, path.stat().st_gid) == (nobody.pw_uid, os.getegid())


def test_a_user_that_does_not_exist_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(OSError, match="/s: cannot change its owner to nobody-at-all: no such user"):
        UnixSocket(str(path), owner="nobody-at-all").listen(1)
    assert not path.exists()


@pytest.mark.parametrize("options", [{"mode": 0o1777}, {"mode": -1}, {"owner": ":"}, {"owner": ""}])
def test_what_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="unix_"):
        UnixSocket("s", **options)  # type: ignore[arg-type]


async def test_the_command_sets_them_and_a_reload_keeps_them(
    command: RunCommand, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    options = ("--unix-mode", "600", "--unix-owner", OWN.pw_name)
    served = await command("--unix", str(path), *options, workers=1, wait=False)
    await served.until_said(f"worker serves unix:{path}")
    before = path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    served.process.send_signal(1)
    await served.until_said("all workers are new")
    assert path.stat().st_ino == before.st_ino
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert caller.recv(12) == b"HTTP/1.1 200"
    assert await served.stop() == 0
    assert not path.exists()


async def test_permissions_that_are_no_number_are_refused(command: RunCommand) -> None:
    served = await command("--unix", "/tmp/x", "--unix-mode", "rw", wait=False)
    assert await served.ended() == 2
    assert "argument --unix-mode: 'rw' must be permissions in octal, such as 660" in served.said
