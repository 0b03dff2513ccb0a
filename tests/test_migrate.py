"""Code written for sockjs-tornado is moved to the adapter, and nothing else in it is touched."""

import ast
import importlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sockjs_aio.migrate import COUNTERPARTS, MISSING, Examination, Kind, examine, main, why_missing


def rewrite(source: str) -> str:
    examination = examine(source.encode())
    return source if examination.rewritten is None else examination.rewritten.decode()


def listed(examination: Examination, kind: Kind) -> list[str]:
    return [f"{f.line}: {f.found} -> {f.advice}" for f in examination.findings if f.kind is kind]


def undecidable(source: str) -> list[str]:
    return listed(examine(source.encode()), Kind.UNDECIDABLE)


def by_hand(source: str) -> list[str]:
    return listed(examine(source.encode()), Kind.BY_HAND)


REWRITTEN = {
    "import": (
        "import sockjs.tornado\nR = sockjs.tornado.SockJSRouter\n",
        "import sockjs_aio.tornado\nR = sockjs_aio.tornado.SockJSRouter\n",
    ),
    "import as": (
        "import sockjs.tornado as x\nx.proto\n",
        "import sockjs_aio.tornado as x\nx.proto\n",
    ),
    "import as sockjs": (
        "import sockjs.tornado as sockjs\nsockjs.SockJSRouter\n",
        "import sockjs_aio.tornado as sockjs\nsockjs.SockJSRouter\n",
    ),
    "import of a module": (
        "import sockjs.tornado.proto\nsockjs.tornado.proto.json_encode(1)\n",
        "import sockjs_aio.tornado.proto\nsockjs_aio.tornado.proto.json_encode(1)\n",
    ),
    "import of a module as": (
        "import sockjs.tornado.transports.base as b\n",
        "import sockjs_aio.tornado.transports.base as b\n",
    ),
    "several in one statement": (
        "import os, sockjs.tornado, sockjs.tornado.session as s, sys\nsockjs.tornado.conn\n",
        "import os, sockjs_aio.tornado, sockjs_aio.tornado.session as s, sys\n"
        "sockjs_aio.tornado.conn\n",
    ),
    "from": (
        "from sockjs.tornado import SockJSRouter as R, proto\n",
        "from sockjs_aio.tornado import SockJSRouter as R, proto\n",
    ),
    "from, over lines": (
        "from sockjs.tornado import (  # the router\n    SockJSRouter,\n)  # end\n",
        "from sockjs_aio.tornado import (  # the router\n    SockJSRouter,\n)  # end\n",
    ),
    "from the namespace": ("from sockjs import tornado\n", "from sockjs_aio import tornado\n"),
    "from the namespace as": (
        "from sockjs import tornado as t\nt.stats.StatsCollector\n",
        "from sockjs_aio import tornado as t\nt.stats.StatsCollector\n",
    ),
    "from a module": (
        "from sockjs.tornado.session import Session, CLOSED\n",
        "from sockjs_aio.tornado.session import Session, CLOSED\n",
    ),
    "from a package": (
        "from sockjs.tornado.transports import base\n",
        "from sockjs_aio.tornado.transports import base\n",
    ),
    "odd spaces": (
        "from  \\\n \tsockjs . tornado  import proto;import sockjs . tornado\n"
        "(sockjs\n  . tornado)\n",
        "from  \\\n \tsockjs_aio . tornado  import proto;import sockjs_aio . tornado\n"
        "(sockjs_aio\n  . tornado)\n",
    ),
    "behind characters of several bytes": (
        "import sockjs.tornado\n"
        "x = ['é𝄞\u2028', sockjs.tornado.proto, '\x0c', sockjs.tornado.conn]\n",
        "import sockjs_aio.tornado\n"
        "x = ['é𝄞\u2028', sockjs_aio.tornado.proto, '\x0c', sockjs_aio.tornado.conn]\n",
    ),
    "in blocks": (
        "try:\n    from sockjs.tornado import proto\nexcept ImportError:\n    proto = None\n"
        "def f():\n\timport sockjs.tornado\n\treturn sockjs.tornado.SockJSConnection.send\n",
        "try:\n    from sockjs_aio.tornado import proto\nexcept ImportError:\n    proto = None\n"
        "def f():\n\timport sockjs_aio.tornado\n\t"
        "return sockjs_aio.tornado.SockJSConnection.send\n",
    ),
    "comments and strings stay": (
        "import sockjs.tornado  # import sockjs.tornado\n"
        "def f():\n    '''Use sockjs.tornado here.'''\n",
        "import sockjs_aio.tornado  # import sockjs.tornado\n"
        "def f():\n    '''Use sockjs.tornado here.'''\n",
    ),
    "assigned attribute of a module": (
        "import sockjs.tornado\nsockjs.tornado.SockJSRouter = None\n",
        "import sockjs_aio.tornado\nsockjs_aio.tornado.SockJSRouter = None\n",
    ),
    "f-string": (
        'import sockjs.tornado\nx = f"{sockjs.tornado.proto}"\n',
        'import sockjs_aio.tornado\nx = f"{sockjs_aio.tornado.proto}"\n',
    ),
    "a name that is also a parameter": (
        "from sockjs.tornado import session\ndef f(session):\n    return session.user\n",
        "from sockjs_aio.tornado import session\ndef f(session):\n    return session.user\n",
    ),
}


@pytest.mark.parametrize(("source", "expected"), REWRITTEN.values(), ids=REWRITTEN)
def test_imports_and_uses_are_rewritten(source: str, expected: str) -> None:
    compile(source, "old", "exec")
    compile(expected, "new", "exec")
    assert rewrite(source) == expected
    assert not undecidable(source)
    assert rewrite(expected) == expected, "a second time changes nothing"
    assert not listed(examine(expected.encode()), Kind.REWRITE)


UNTOUCHED = [
    "",
    "from . import sockjs\nsockjs.tornado_like\n",
    "from .sockjs.tornado import SockJSRouter\n",
    "import sockjs.tornado2\n",
    "import my.sockjs.tornado\nmy.sockjs.tornado.X\n",
    "import sockjs_aio.tornado\nsockjs_aio.tornado.proto\n",
    "import other as sockjs\nsockjs.tornado.X\n",
    "log = 'sockjs.tornado is used'\n",
    "__all__ = ['sockjs']\n",
]


@pytest.mark.parametrize("source", UNTOUCHED)
def test_other_code_is_not_touched(source: str) -> None:
    examination = examine(source.encode())
    assert (examination.findings, examination.rewritten) == ([], None)


UNDECIDABLE = {
    "name assigned": ("import sockjs.tornado\nsockjs = None\n", [1, 2]),
    "name passed on": ("import sockjs.tornado\nf(sockjs)\nsockjs.tornado.proto\n", [1, 2, 3]),
    "another part of the namespace": ("import sockjs.tornado\nsockjs.something_else\n", [1, 2]),
    "plain import of the namespace": ("import sockjs\nimport sockjs.tornado\n", [1, 2]),
    "only the namespace imported": ("import sockjs\nsockjs.tornado.SockJSRouter\n", [2]),
    "nothing imported": ("def f(sockjs):\n    sockjs.tornado.proto\n", [2]),
    "parameter": ("import sockjs.tornado\ndef f(sockjs): pass\n", [1, 2]),
    "function": ("import sockjs.tornado\ndef sockjs(): pass\n", [1, 2]),
    "global": ("def f():\n    global sockjs\n    import sockjs.tornado\n", [2, 3]),
    "handler": ("import sockjs.tornado\ntry: pass\nexcept E as sockjs: pass\n", [1, 3]),
    "pattern": ("import sockjs.tornado\nmatch x:\n    case {**sockjs}: pass\n", [1, 3]),
    "other import": ("import sockjs.tornado\nimport a as sockjs\n", [1, 2]),
    "other from-import": ("import sockjs.tornado\nfrom a import sockjs\n", [1, 2]),
    "relative import": ("import sockjs.tornado\nfrom . import sockjs\n", [1, 2]),
    "package assigned": ("import sockjs.tornado\nsockjs.tornado = 1\n", [1, 2]),
    "package deleted": ("import sockjs.tornado\ndel sockjs.tornado\n", [1, 2]),
    "annotation": ("import sockjs.tornado\ndef f(x: 'list[sockjs.tornado.X]'): pass\n", [1, 2]),
    "result": ("import sockjs.tornado\ndef f() -> 'sockjs.tornado.X': pass\n", [1, 2]),
    "exported": ("import sockjs.tornado\n__all__ = ['sockjs']\n", [1, 2]),
    "exported later": ("import sockjs.tornado\n__all__ += ['sockjs']\n", [1, 2]),
    "star": ("from sockjs.tornado import *\n", [1]),
    "only a part moves": ("from sockjs import tornado, other\n", [1]),
    "unknown name": ("from sockjs.tornado import Whatever, SockJSRouter\n", [1]),
    "unknown name of a module": ("from sockjs.tornado.session import SessionMixin\n", [1]),
    "once, where it is imported": ("from sockjs.tornado import util\nutil.a\nutil.b\n", [1]),
    "use of what is missing": ("import sockjs.tornado\nsockjs.tornado.periodic.X\n", [1, 2]),
    "the same by an alias": ("import sockjs.tornado as t\nt.periodic.X\n", [1, 2]),
    "the same by its name": ("from sockjs import tornado\ntornado.util\n", [1, 2]),
    "__import__": ("x = __import__('sockjs.tornado')\n", [1]),
    "__import__ with a list": ("x = __import__('sockjs', fromlist=['tornado'])\n", [1]),
    "import_module": ("importlib.import_module('sockjs.tornado.proto')\n", [1]),
    "relative import_module": ("import_module('.proto', 'sockjs.tornado')\n", [1]),
    "f-string of import_module": ("import_module(f'sockjs.tornado.{x}')\n", [1]),
    "name in a string": ("patch('sockjs.tornado.SockJSRouter')\n", [1]),
    "letters that only look so": (
        "import ſockjs.tornado\nfrom ſockjs.tornado import proto\n",
        [1, 2],
    ),
    "f-string that shows its source": (
        "import sockjs.tornado\nx = f'{sockjs.tornado.proto=}'\n",
        [1, 2],
    ),
}


@pytest.mark.parametrize(("source", "lines"), UNDECIDABLE.values(), ids=UNDECIDABLE)
def test_undecidable_places_are_listed_and_left(source: str, lines: list[int]) -> None:
    compile(source, "old", "exec")
    examination = examine(source.encode())
    assert sorted({finding.line for finding in examination.findings}) == lines
    assert {finding.kind for finding in examination.findings} == {Kind.UNDECIDABLE}
    assert examination.rewritten is None


def test_the_reason_is_said_and_the_rest_points_to_its_line() -> None:
    source = "import sockjs.tornado\nx = sockjs\nsockjs.tornado.proto\n"
    again = "change that line, then run the command again"
    assert undecidable(source) == [
        f"1: import sockjs.tornado -> not rewritten because of line 2; {again}",
        "2: sockjs -> the name sockjs is used for more than sockjs.tornado; change this by hand, "
        "then run the command again",
        f"3: sockjs.tornado.proto -> not rewritten because of line 2; {again}",
    ]


def test_what_can_be_decided_is_rewritten_beside_what_cannot() -> None:
    source = "import sockjs.tornado\nfrom sockjs.tornado import proto\nf(sockjs)\n"
    assert rewrite(source) == source.replace("from sockjs.", "from sockjs_aio.")
    assert len(undecidable(source)) == 2


@pytest.mark.parametrize("module", [*MISSING, "transports.xhr", "transports.rawwebsocket"])
def test_modules_without_counterpart_are_listed_with_a_reason(module: str) -> None:
    package, _, name = f"sockjs.tornado.{module}".rpartition(".")
    for source in (
        f"import sockjs.tornado.{module}\n",
        f"import sockjs.tornado.{module} as m\n",
        f"from sockjs.tornado.{module} import X\n",
        f"from {package} import {name}\n",
    ):
        (line,) = undecidable(source)
        assert f"sockjs_aio.tornado.{module} does not exist: " in line
        assert rewrite(source) == source


def test_counterparts_exist_in_the_adapter() -> None:
    for module, names in COUNTERPARTS.items():
        found = importlib.import_module(f"sockjs_aio.tornado.{module}".rstrip("."))
        assert names <= set(vars(found)), module
        assert why_missing(module) is None
    top = importlib.import_module("sockjs_aio.tornado")
    assert {m for m in COUNTERPARTS if m and "." not in m} <= set(vars(top))


SERVER = """\
import tornado.ioloop
import tornado.web
from sockjs.tornado import SockJSConnection, SockJSRouter

Echo = SockJSRouter(SockJSConnection, "/echo")
Chat = SockJSRouter(SockJSConnection, "/chat")
app = tornado.web.Application([("/", Index)] + Echo.urls + Chat.urls)
app.listen(8080, "::1")
tornado.ioloop.IOLoop.instance().start()
"""


def test_start_of_the_server_is_reported_and_left() -> None:
    for source in (SERVER, rewrite(SERVER)):
        application, listen, start = by_hand(source)
        assert application.startswith("7: tornado.web.Application([('/', Index)] + Echo.urls")
        assert application.endswith(
            " -> app = web.Application(); Echo.attach(app); Chat.attach(app); "
            "the other handlers, Index, do not move along"
        )
        assert listen.startswith(
            "8: app.listen(8080, '::1') -> run_app(app, host='::1', port=8080)"
        )
        assert start.startswith("9: tornado.ioloop.IOLoop.instance().start() -> run_app(app, ")
    assert rewrite(SERVER) == SERVER.replace("from sockjs.", "from sockjs_aio.")


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("from tornado import web as w; w.Application(routes)", "router.attach(app)"),
        ("from tornado.web import Application as A; A(r.apply_routes([]))", "r.attach(app)"),
        (
            "from tornado.web import Application; Application.__init__(self, urls)",
            "web.Application()",
        ),
        (
            "from tornado.web import Application\nclass App(Application): pass",
            "a function that makes",
        ),
        ("from tornado.ioloop import IOLoop; IOLoop.current().start()", "run_app"),
        ("from tornado.ioloop import IOLoop; self.x = IOLoop(); self.x.start()", "run_app"),
        ("from tornado.httpserver import HTTPServer; HTTPServer(app)", "ssl_context"),
        ("self.http_server.listen(options.port)", "port=options.port"),
        ("SockJSRouter(C, '/', io_loop=loop)", "remove io_loop"),
        ("SockJSRouter(C, '/', {}, loop)", "remove io_loop"),
        ("PeriodicCallback(f, 1000, io_loop=loop)", "remove io_loop"),
    ],
)
def test_forms_of_the_start(line: str, advice: str) -> None:
    source = f"from sockjs.tornado import SockJSRouter\n{line}\n"
    (found,) = by_hand(source)
    assert advice in found
    assert not by_hand(f"{line}\n"), "not in files that have nothing to do with sockjs-tornado"


@pytest.mark.parametrize(
    "line",
    [
        "from aiohttp import web; web.Application()",
        "from aiohttp import web; from tornado import web; web.Application()",
        "self.loop = PeriodicCallback(f, 1); self.loop.start()",
        "sock.listen(5)",
        "app.listen()",
        "thread.start()",
    ],
)
def test_what_only_looks_like_a_start(line: str) -> None:
    assert not by_hand(f"from sockjs.tornado import SockJSRouter\n{line}\n")


def test_session_class_is_noted_as_supported() -> None:
    for call in ("SockJSRouter(C, '/', session_kls=S)", "SockJSRouter(C, '/', {}, None, S)"):
        examination = examine(f"from sockjs.tornado import SockJSRouter\n{call}\n".encode())
        (found,) = listed(examination, Kind.SUPPORTED)
        assert found.endswith("-> no change needed: session_kls is supported")


SOURCE = (
    "import sockjs.tornado{end}é = [sockjs.tornado.proto, '{letters}']{end}# x\t {end}{end}x = 1"
)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("latin-1", "# -*- coding: latin-1 -*-{end}"),
        ("cp1252", "#!/usr/bin/python{end}# vim: set fileencoding=cp1252 :{end}"),
        ("koi8-r", "# coding: koi8-r{end}"),
        ("shift_jis", "# coding: shift_jis{end}"),
    ],
)
def test_all_other_bytes_stay(end: str, encoding: str, head: str) -> None:
    letters = {"koi8-r": "Привет", "shift_jis": "日本語"}.get(encoding, "ÿé")
    source = head + SOURCE
    if encoding in ("koi8-r", "shift_jis"):
        source = source.replace("é", "x")
    raw = source.format(end=end, letters=letters).encode(encoding)
    compile(raw, "old", "exec")
    rewritten = examine(raw).rewritten
    assert rewritten == raw.replace(b"sockjs.tornado", b"sockjs_aio.tornado")
    compile(rewritten, "new", "exec")


def test_mixed_line_endings_stay() -> None:
    raw = b"\r\n\nimport sockjs.tornado\r\nx = '''\r\n'''\n\x0csockjs.tornado.proto # \r\n\t"
    rewritten = examine(raw).rewritten
    assert rewritten == raw.replace(b"sockjs.tornado", b"sockjs_aio.tornado")


def test_file_whose_encoding_does_not_give_its_bytes_back_is_left() -> None:
    raw = b"# coding: utf-7\nimport sockjs.tornado\n# +AEE-\n"
    examination = examine(raw)
    assert examination.rewritten is None
    (found,) = listed(examination, Kind.UNDECIDABLE)
    assert "not rewritten: saving it as utf-7 would change other bytes" in found


def test_files_without_a_word_of_sockjs_are_only_parsed() -> None:
    assert examine(b"import tornado\nx = 1\n") == Examination([])


BROKEN = {
    "indentation": b"if x:\npass\n",
    "not UTF-8": b"x = 1\ny = 2\nz = '\xff'\n",
    "not UTF-8 at the start": b"# \xff\n",
    "unknown encoding": b"# coding: klingon\n",
    "not an encoding of text": b"# coding: rot13\n",
    "null byte": b"x = 1\n\0",
    "too deep": b"x = " + b"-" * 50_000 + b"1\n",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_broken_files_are_reported(raw: bytes) -> None:
    (finding,) = examine(raw).findings
    assert finding.kind is Kind.BROKEN
    assert finding.advice
    assert finding.render(Path("x.py")).startswith(f"x.py:{finding.line}: broken: cannot be read: ")


def test_long_sums_are_not_too_deep_to_rewrite() -> None:
    source = "import sockjs.tornado\nx = " + "1 + " * 900 + "1\n"
    assert rewrite(source).startswith("import sockjs_aio.tornado\n")


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-m", "sockjs_aio.migrate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.programs
def test_command_reports_then_writes_then_has_nothing_to_do(tmp_path: Path) -> None:
    server, other = tmp_path / "server.py", tmp_path / "other.py"
    server.write_text(SERVER)
    other.write_text(r"x = '\d'")
    first = run(tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert server.read_text() == SERVER
    lines = first.stdout.splitlines()
    assert lines[0] == (
        f"{server}:3: from sockjs.tornado import SockJSConnection, SockJSRouter"
        " -> from sockjs_aio.tornado import SockJSConnection, SockJSRouter"
    )
    assert lines[3].endswith(" (by hand)")
    assert [line.strip() for line in lines[5:8]] == [
        "app = web.Application()",
        "router.attach(app)",
        "run_app(app, host=..., port=...)",  # as in the guide and the README
    ]
    counts = "3 by hand, 0 undecidable, 0 broken"
    assert lines[-1] == f"2 files: 1 place to rewrite (with --write), {counts}"

    second = run("--write", tmp_path)
    assert second.stdout.splitlines()[-1] == f"2 files: 1 place rewritten, {counts}"
    assert server.read_text() == rewrite(SERVER)
    before = server.stat()
    third = run(tmp_path, "--write")
    assert third.stdout.splitlines()[-1] == f"2 files: 0 places rewritten, {counts}"
    assert (server.stat().st_ino, server.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.py", "server.py"]


@pytest.mark.programs
def test_exit_status_is_in_the_help() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "exit status:" in result.stdout


@pytest.mark.parametrize("source", ["from sockjs.tornado import *", "import ("])
def test_status_is_1_if_something_is_left_to_decide(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.py").write_text(source)
    (tmp_path / "b.py").write_text("from sockjs.tornado import proto")
    assert main([str(tmp_path), "--write"]) == 1
    assert (tmp_path / "a.py").read_text() == source
    assert (tmp_path / "b.py").read_text() == "from sockjs_aio.tornado import proto"


@pytest.mark.programs
def test_path_that_does_not_exist_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import sockjs.tornado")
    (tmp_path / "loop").symlink_to("loop")
    for missing in ("missing", "loop"):
        result = run("--write", tmp_path, tmp_path / missing)
        assert result.returncode == 2
        assert f"{tmp_path / missing}: no such file or directory" in result.stderr
    assert (tmp_path / "a.py").read_text() == "import sockjs.tornado"


def files_in(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]]


def test_directories_are_walked_in_sorted_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = ["a.py", "b/deep/er/x.py", "b/x.py", "c.py", "venv_without_cfg/x.py"]
    skipped = [".git/x.py", ".hidden/x.py", "env/x.py", "env/lib/x.py", "b/node_modules/x.py"]
    for name in [*taken, *skipped, "__pycache__/x.py", "notes.txt", "b/x.pyc"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import sockjs.tornado\n")
    (tmp_path / "env/pyvenv.cfg").write_text("")
    (tmp_path / "b/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b/link.py").symlink_to(tmp_path / "a.py")
    (tmp_path / "b/dangling.py").symlink_to(tmp_path / "nothing.py")
    (tmp_path / "dir.py").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["."]) == 0
    assert files_in(capsys) == taken
    assert main(["c.py", ".", "b", "env", "notes.txt"]) == 0, "what is named is taken, and once"
    named = ["c.py", "a.py", *taken[1:3], taken[4], "env/lib/x.py", "env/x.py", "notes.txt"]
    assert files_in(capsys) == named


def test_link_that_is_named_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text("import sockjs.tornado")
    (tmp_path / "link").symlink_to("real.py")
    assert main([str(tmp_path / "link"), "--write"]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.py").read_text() == "import sockjs_aio.tornado"


def test_mode_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("import sockjs.tornado")
    file.chmod(0o751)
    assert main([str(file), "--write"]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o751
    assert file.read_text() == "import sockjs_aio.tornado"


def test_file_that_cannot_be_replaced_is_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "a.py"
    file.write_text(SERVER)
    monkeypatch.setattr(os, "replace", fail)
    assert main([str(file), "--write"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{file}:1: broken: cannot be written: Permission denied; fix this, ")
    assert out.endswith("1 file: 0 places rewritten, 3 by hand, 0 undecidable, 1 broken\n")
    assert file.read_text() == SERVER
    assert os.listdir(tmp_path) == ["a.py"]


def test_unreadable_files_and_directories_are_reported_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "closed").mkdir()
    (tmp_path / "z.py").write_text("import sockjs.tornado")
    (tmp_path / "secret.py").write_text("")
    scandir, read_bytes = os.scandir, Path.read_bytes

    def refuse_directory(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def refuse_file(path: Path) -> bytes:
        if path.name == "secret.py":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(os, "scandir", refuse_directory)
    monkeypatch.setattr(Path, "read_bytes", refuse_file)
    assert main([str(tmp_path)]) == 1
    fix = "fix this, then run the command again"
    assert capsys.readouterr().out.splitlines()[:-1] == [
        f"{tmp_path}/closed:1: broken: cannot be read: Permission denied; {fix}",
        f"{tmp_path}/pipe.py:1: broken: cannot be read: not a regular file; {fix}",
        f"{tmp_path}/secret.py:1: broken: cannot be read: Permission denied; {fix}",
        f"{tmp_path}/z.py:1: import sockjs.tornado -> import sockjs_aio.tornado",
    ]


def test_modules_import_nothing_of_the_package_but_each_other() -> None:
    ends = "sockjs_aio.exit_status"  # how all commands end; it imports nothing of the package
    path = sys.modules["sockjs_aio.migrate"].__file__
    assert path
    for module in Path(path).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                assert node.module and (
                    node.module.startswith("sockjs_aio.migrate.")
                    or node.module == ends
                    or not node.module.startswith("sockjs")
                )
