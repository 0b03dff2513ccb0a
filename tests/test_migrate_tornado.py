"""What else of Tornado an application has is told, and so are files of settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from sockjs_aio.migrate import Finding, Kind, examine_file, main
from tests.test_migrate_start import advice_for

HEAD = (
    "import tornado.web, tornado.testing\nfrom tornado import web\nfrom sockjs.tornado import *\n"
)


def advice(code: str, kind: Kind = Kind.BY_HAND) -> list[str]:
    return advice_for(code, kind, HEAD)


@pytest.mark.parametrize(
    "code",
    [
        "class A(tornado.web.RequestHandler): pass",
        "class A(web.StaticFileHandler): pass",
        "class A(web.ErrorHandler): pass",
        "class A(mixins.Own, web.RequestHandler): pass",
        "class A(BaseHandler):\n    def get(self): pass",
        "class A(base.Handler):\n    def initialize(self): pass",
        "class A(base.APIHandler): pass\nroutes = [(r'/a', A)]",
        "class A(base.APIHandler):\n    def put_ok(self): pass\nroutes = [web.url('/a', A)]",
    ],
)
def test_request_handlers_are_told(code: str) -> None:
    (found,) = advice(code)
    assert found.startswith("leave it on Tornado beside the service (see “One endpoint at a time”")


def test_handlers_derived_from_those_of_the_file_are_told_too() -> None:
    assert len(advice("class A(web.RequestHandler): pass\nclass B(A): pass")) == 2


@pytest.mark.parametrize(
    ("body", "use"),
    [
        ("self.render('a.html')", "templates"),
        ("self.write(self.render_string('a.html'))", "templates"),
        ("return self.get_secure_cookie('u')", "signed cookies"),
        ("self.set_signed_cookie('u', 'v')", "signed cookies"),
        ("return self.current_user", "open to everybody"),
        ("return self.xsrf_form_html()", "accepts forged requests"),
    ],
)
def test_what_a_handler_uses_is_told_with_it(body: str, use: str) -> None:
    (found,) = advice(f"class A(web.RequestHandler):\n    def get(self):\n        {body}")
    assert use in found


@pytest.mark.parametrize(
    ("decorator", "use"),
    [("tornado.web.authenticated", "open to everybody"), ("run_on_executor", "an executor")],
)
def test_decorators_of_handlers_are_told(decorator: str, use: str) -> None:
    code = f"class A(web.RequestHandler):\n    @{decorator}\n    def get(self): pass"
    (found,) = advice(code)
    assert use in found


def test_websocket_handlers_keep_their_check_of_the_origin() -> None:
    code = "from tornado.websocket import WebSocketHandler\nclass A(WebSocketHandler): pass"
    (found,) = advice(code)
    assert "sockjs_aio.tornado.migrate" in found and '{"origins": [...]}' in found


XSRF = [
    "web.Application([], xsrf_cookies=True)",
    "web.Application([], xsrf_cookies=options.xsrf)",
    "settings = dict(xsrf_cookies=True)",
    "settings = {'debug': True, 'xsrf_cookies': True}",
    "settings['xsrf_cookies'] = True",
]


@pytest.mark.parametrize("code", XSRF)
def test_xsrf_cookies_need_a_decision(code: str) -> None:
    (found,) = advice(code, Kind.UNDECIDABLE)
    assert "aiohttp does not check xsrf cookies" in found


@pytest.mark.parametrize(
    "code",
    [
        "web.Application([], {}={})",
        "settings = dict(cookie_secret=S, {}={})",
        "settings = {{'template_path': T, '{}': {}}}",
        "settings['{}'] = {}",
        "app.settings['{}'] = {}",
    ],
)
@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("login_url", "'/login'", "login_url: goes with the handlers"),
        ("ui_modules", "modules", "ui_modules: goes with the handlers"),
        ("static_path", "'files'", 'static_path: app.router.add_static("/static", PATH)'),
        ("compress_response", "True", "compress_response: call response.enable_compression()"),
        ("gzip", "True", "gzip: call response.enable_compression()"),
        ("log_function", "log", "log_function: pass access_log_class to run_app"),
        ("default_handler_class", "Error404", "default_handler_class: write a middleware"),
        ("debug", "True", "debug: nothing reloads code here"),
        ("autoreload", "options.debug", "autoreload: nothing reloads code here"),
        ("websocket_ping_interval", "9", "websocket_ping_interval: set heartbeat_delay"),
    ],
)
def test_settings_of_the_application_do_not_vanish(
    code: str, name: str, value: str, what: str
) -> None:
    assert what in "; ".join(advice(code.format(name, value)))


@pytest.mark.parametrize(
    "code",
    [
        "web.Application(router.urls, gzip=False, debug=None)",
        "context = {'debug': True}",
        "run(debug=True)",
        "settings = {'disabled_transports': ['jsonp']}",
    ],
)
def test_other_settings_need_no_word(code: str) -> None:
    assert not [found for found in advice(code) if ": " in found]


def test_xsrf_cookies_that_are_off_need_none() -> None:
    assert not advice("settings = {'xsrf_cookies': False}", Kind.UNDECIDABLE)


@pytest.mark.parametrize(
    "code",
    [
        "tornado.web.decode_signed_value(S, 'u', info.get_cookie('u').value)",
        "web.create_signed_value(S, 'u', 'v')",
        "from tornado.template import Loader\nLoader('x')",
        "from tornado import template\ntemplate.Template('x')",
        "from tornado.concurrent import run_on_executor\nclass A:\n    @run_on_executor\n"
        "    def f(self): pass",
    ],
)
def test_what_goes_on_working_beside_tornado_is_told(code: str) -> None:
    (found,) = advice(code, Kind.SUPPORTED)
    assert found.startswith("no change needed while Tornado is installed")


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("class T(tornado.testing.AsyncHTTPTestCase): pass", "a test with pytest-aiohttp"),
        ("class T(tornado.testing.AsyncTestCase): pass", "a test with pytest-aiohttp"),
        ("@tornado.testing.gen_test\ndef test(): pass", "an async def test"),
        ("import tornado.wsgi\ntornado.wsgi.WSGIContainer(django)", "gunicorn"),
        ("from tornado import autoreload\nautoreload.start()", "nothing reloads code here"),
        ("import django\ndjango.setup()", "SynchronousOnlyOperation"),
        ("from django.db import models", "SynchronousOnlyOperation"),
        ("import tornado.platform.asyncio as a\na.AsyncIOMainLoop().install()", "remove it"),
        ("class M(web.UIModule): pass", "it goes with the handlers"),
        ("from tornado.web import asynchronous", "Tornado 6"),
        ("import tornadoredis", "use a client for asyncio"),
        ("from tornadoredis.pubsub import SockJSSubscriber", "use a client for asyncio"),
        ("import motor", "in a function in app.on_startup"),
        ("from zmq.eventloop import zmqstream", "in a function in app.on_startup"),
        ("from tornado import gen\n@gen.engine\ndef f(): pass", "Tornado 6"),
        ("import tornado.gen\nx = tornado.gen.Task(f)", "Tornado 6"),
        ("from tornado.stack_context import NullContext", "Tornado 6"),
        ("import tornado.httpclient\nclient.fetch(url, self.on_fetch)", "never calls the callback"),
        ("import tornado.httpclient\nclient.fetch(url, callback=done)", "raises an exception"),
        (
            "from tornado import iostream\nstream.read_bytes(4, self.on_head)",
            "never calls the callback",
        ),
        ("import tornado.iostream\nstream.connect(address, done)", "never calls the callback"),
        ("import tornado.iostream\nstream.connect(host, port)", "if the second argument is"),
        ("from tornado.log import gen_log\ngen_log.setLevel(9)", '"sockjs_aio"'),
    ],
)
def test_what_needs_something_else_is_told(code: str, what: str) -> None:
    (found,) = [f for kind in (Kind.BY_HAND, Kind.SUPPORTED) for f in advice(code, kind)]
    assert what in found


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("self.session.handler.request.headers['User-Agent']", "use session.conn_info"),
        ("self.session.handler.send_pack('x')", "use session.conn_info"),
        ("self.session.server.io_loop.add_callback(f)", "call IOLoop.current() in the hook"),
        ("router.io_loop.add_callback(f)", "call IOLoop.current() in the hook"),
        ("import sockjs.tornado as s\nr = s.SockJSRouter(C)\nr.io_loop.add_callback(f)", "IOLoop"),
    ],
)
def test_what_a_session_had_of_tornado_is_told(code: str, what: str) -> None:
    (found,) = advice(code)
    assert what in found


@pytest.mark.parametrize(
    "code",
    [
        "class A(SockJSConnection):\n    def on_open(self, i): self.handler = self.session.handler",
        "class A(SockJSConnection):\n    def on_open(self, info): self.render = info",
        "class A(logging.Handler):\n    def emit(self, record): pass",
        "class A(threading.Thread):\n    def get(self): pass",
        "from .django import x",
        "render('a.html')",
        "import tornado.gen\nif old:\n    from tornado.gen import engine",
        "from tornado import gen\nf = gen.engine if hasattr(gen, 'engine') else gen.coroutine",
        "client.fetch(url)",
        "from tornado import iostream\nstream.read_bytes(4)",
        "connection.read_bytes(4, done)",
        "client.fetch(url, raise_error=False)",
    ],
)
def test_what_only_looks_like_tornado_is_left_alone(code: str) -> None:
    assert not advice(code) and not advice(code, Kind.SUPPORTED)


# Files that do not use sockjs-tornado themselves.

OTHER = "import tornado.web\nclass A(tornado.web.RequestHandler): pass\n"


def test_files_beside_those_of_the_service_are_told_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "handlers.py").write_text(OTHER)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("1 file: ")
    (tmp_path / "z.py").write_text("import sockjs.tornado\n")
    assert main([str(tmp_path), "--write"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path}/handlers.py:2: class A(tornado.web.RequestHandler) -> ")
    assert (tmp_path / "handlers.py").read_text() == OTHER
    assert main([str(tmp_path)]) == 0, "and once the imports have been changed"
    assert "handlers.py:2: " in capsys.readouterr().out


def test_requirements_make_a_project_one_of_sockjs_tornado(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "handlers.py").write_text(OTHER)
    (tmp_path / "requirements.txt").write_text("sockjs-tornado\n")
    assert main([str(tmp_path)]) == 0
    assert "handlers.py:2: " in capsys.readouterr().out


# Requirements and logging.

REQUIREMENTS = {
    "requirements.txt": "tornado\nsockjs-tornado==1.0.3  # why\n",
    "requirements-dev.txt": "# sockjs-tornado\nsockjs_tornado>=1\n",
    "requirements/base.in": "x\nsockjs-tornado\n",
    "constraints.txt": "x\nSockJS-Tornado<2\n",
    "pyproject.toml": "[project]\ndependencies = ['sockjs-tornado ~= 1.0', 'tornado']\n",
    "setup.cfg": "install_requires =\n    sockjs-tornado\n",
    "tox.ini": "[testenv]\ndeps = sockjs-tornado\n",
    "Pipfile": "[packages]\nsockjs-tornado = '*'\n",
    "environment.yml": "- pip:\n  - sockjs-tornado=1\n",
    "Dockerfile": "FROM x\nRUN pip install tornado sockjs-tornado\n",
    "fabfile.py": "def deploy():\n    run('pip install tornado sockjs-tornado==1.0')\n",
    "requirements.pip": "tornado\nsockjs-tornado\n",
    "reqs.txt": "# from GitHub\nhttps://github.com/mrjoes/sockjs-tornado/archive/master.zip\n",
    "pip-requires": "tornado\nsockjs-tornado\n",
    "install_requires.txt": "tornado\nsockjs-tornado\n",
    "Makefile": "install:\n\tpip install sockjs-tornado\n",
    "deploy.sh": "set -e\npip install tornado 'sockjs-tornado<1'\n",
    "web.dockerfile": "FROM x\nRUN pip install tornado sockjs-tornado\n",
    "setup.py": "setup(\n    install_requires=['tornado', 'sockjs-tornado>=1.0,<2'])\n",
}


@pytest.mark.parametrize(("name", "text"), REQUIREMENTS.items())
def test_requirements_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert main([str(tmp_path), "--write"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / name}:2: ")
    assert (
        " -> require sockjs-aio instead, and tornado on its own line if other code uses it "
        "(by hand)" in out
    )
    assert (tmp_path / name).read_text() == text


LOGGERS = {
    "logging.yaml": "loggers:\n  sockjs.tornado:\n    level: DEBUG\n",
    "logging.ini": "[logger_sockjs]\nqualname=sockjs.tornado.session\n",
    "logging.json": '{"loggers": {\n"sockjs.tornado": {"level": "DEBUG"}}}\n',
    "app.conf": "x\nlogger = sockjs.tornado\n",
    "a.py": "import logging\nlogging.getLogger('sockjs.tornado').setLevel(10)\n",
    "b.py": "dictConfig({'loggers':\n {'sockjs.tornado.proto': {'level': 'DEBUG'}}})\n",
    "c.py": "dictConfig(dict(loggers=\n {'sockjs.tornado': {'level': 'DEBUG'}}))\n",
    "e.py": "import sockjs_aio.tornado\nNAME = 'tornado.general'\n",
    "f.py": "import sockjs_aio.tornado\nfor n in 'tornado.access', 'tornado.general': off(n)\n",
    "g.py": "import sockjs_aio.tornado\nLOGGING['loggers']['tornado.general'] = {}\n",
    "d.py": "import sockjs_aio.tornado\nx = logging.getLogger('tornado.general')\n",
}


@pytest.mark.parametrize(("name", "text"), LOGGERS.items())
def test_loggers_are_told_with_their_new_name(name: str, text: str) -> None:
    (finding,) = examine_file(name, text.encode()).findings
    assert (finding.line, finding.kind) == (2, Kind.BY_HAND)
    assert finding.advice == (
        'use the logger "sockjs_aio" instead (sockjs-tornado used "tornado.general")'
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("logging.yaml", "loggers:\n  tornado.general:\n    level: INFO\n"),
        ("settings.py", "LOGGING = {'loggers': {\n 'tornado.general': {'level': 'INFO'}}}\n"),
    ],
)
def test_tornados_own_logger_is_told_in_projects_of_sockjs_tornado_alone(
    name: str, text: str
) -> None:
    examination = examine_file(name, text.encode())
    assert examination.findings == [] and not examination.is_user
    (finding,) = examination.beside
    assert isinstance(finding, Finding) and finding.line == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.txt", "sockjs-tornado"),
        ("run.sh", "python sockjs-tornado-demo.py; echo sockjs-tornado"),
        ("README.md", "sockjs-tornado"),
        ("package.json", '{"sockjs-tornado": "1"}'),
        ("poetry.lock", "sockjs-tornado"),
        ("requirements.txt", "tornado\nmy-sockjs-tornado\nsockjs-tornado-extra\nsockjs-aio\n"),
        ("app.yaml", "service: sockjs_tornado_like\nsockjs_aio.tornado: x\n"),
        ("big.json", "sockjs-tornado " * 100_000),
        ("binary.conf", "\0\xff" * 9),
    ],
)
def test_other_files_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert main([str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.programs
@pytest.mark.parametrize("arguments", [["migrate"], ["migrate", "--write"]])
def test_migrate_is_a_command_of_the_package(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "a.py").write_text("import sockjs.tornado\n")
    command = [sys.executable, "-m", "sockjs_aio", *arguments, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.endswith("0 by hand, 0 undecidable, 0 broken\n")
    is_rewritten = (tmp_path / "a.py").read_text() == "import sockjs_aio.tornado\n"
    assert is_rewritten == ("--write" in arguments)
    help_text = subprocess.run([*command[:3], "--help"], capture_output=True, text=True, timeout=50)
    assert "migrate" in help_text.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import sockjs\nsockjs.add_endpoint()",
        "import sockjs as s",
        "from sockjs import MsgType, add_endpoint",
    ],
)
def test_the_other_sockjs_is_told_with_its_guide(code: str) -> None:
    examination = examine_file("a.py", f"{code}\n".encode())
    assert examination.rewritten is None
    (finding,) = examination.findings
    assert finding.kind is Kind.UNDECIDABLE
    assert "docs/migrating-from-aiolibs-sockjs.md" in finding.advice


@pytest.mark.parametrize(
    "code", ["import sockjs, sockjs.tornado", "from sockjs import tornado", "from .sockjs import x"]
)
def test_the_package_that_both_share_is_not_the_other_sockjs(code: str) -> None:
    findings = examine_file("a.py", f"{code}\n".encode()).findings
    assert not [each for each in findings if "aiolibs" in each.advice]
