"""The start of a server is told so that nothing listens wider than before, and nothing is lost."""

import re

import pytest

from sockjs_aio.migrate import Kind, examine

HEAD = """\
from tornado import httpserver, ioloop, netutil, process, web
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from sockjs.tornado import SockJSConnection, SockJSRouter
app = web.Application([])
"""


def advice_for(code: str, kind: Kind = Kind.BY_HAND, head: str = HEAD) -> list[str]:
    """Return what is said about `code`, which comes behind the imports and an application."""
    above = head.count("\n")
    findings = examine((head + code + "\n").encode()).findings
    return [f.advice for f in findings if f.line > above and f.kind is kind]


LISTENS = {
    "app.listen(8080)": "run_app(app, port=8080)",
    "app.listen(port=8080)": "run_app(app, port=8080)",
    "app.listen(8080, '')": "run_app(app, port=8080)",
    "app.listen(8080, address=None)": "run_app(app, port=8080)",
    "app.listen(options.port, address='127.0.0.1')": "run_app(app, host='127.0.0.1', "
    "port=options.port)",
    "app.listen(options.port, options.address)": "run_app(app, host=options.address, "
    "port=options.port)",
    "app.listen(8080, '0.0.0.0')": "run_app(app, host='0.0.0.0', port=8080)",
    "app.listen(8080, '::')": "run_app(app, host='::', port=8080)",
    "app.listen(8080, address=pick() or 'localhost')": "run_app(app, host=pick() or 'localhost', "
    "port=8080)",
    "app.listen(8080, backlog=5, reuse_port=True)": "run_app(app, port=8080, backlog=5, "
    "reuse_port=True)",
    "app.listen(8080, family=socket.AF_INET)": "run_app(app, host='0.0.0.0', port=8080)",
    "app.listen(8080, family=socket.AF_UNSPEC)": "run_app(app, port=8080)",
    "app.listen(8080, family=choose())": "run_app(app, host='127.0.0.1', port=8080)",
    "app.listen(*where)": "run_app(app, host='127.0.0.1', port=...)",
    "app.listen(8080, *where)": "run_app(app, host='127.0.0.1', port=8080)",
    "app.listen(8080, **options)": "run_app(app, host='127.0.0.1', port=8080)",
    "app.listen(8080, '', socket.AF_INET6)": "run_app(app, host='::', port=8080)",
    "self.http_server.listen(80, 'localhost')": "run_app(app, host='localhost', port=80)",
    "web.Application([]).listen(80, 'localhost')": "run_app(app, host='localhost', port=80)",
    "HTTPServer(app).listen(80, 'localhost')": "run_app(app, host='localhost', port=80)",
    "s = HTTPServer(app)\ns.bind(80, 'localhost')": "run_app(app, host='localhost', port=80)",
    "s = HTTPServer(app)\ns.add_sockets(sockets)": "run_app(app, sock=sockets)",
    "s = HTTPServer(app)\ns.add_socket(make(80))": "run_app(app, sock=make(80))",
    "app.listen(443, 'a', ssl_options=TLS)": "run_app(app, host='a', port=443, "
    "ssl_context=ssl_context_of(TLS))",
    "app.listen(443, 'a', ssl_options=None)": "run_app(app, host='a', port=443)",
    "s = HTTPServer(app, ssl_options={'certfile': c})\ns.listen(443, 'a')": "run_app(app, "
    "host='a', port=443, ssl_context=ssl_context_of({'certfile': c}))",
    "s = HTTPServer(app, ssl_options=TLS)\ns.add_sockets(x)": "run_app(app, sock=x, "
    "ssl_context=ssl_context_of(TLS))",
    "HTTPServer(app, ssl_options=TLS).bind(443)": "run_app(app, port=443, "
    "ssl_context=ssl_context_of(TLS))",
    "if tls:\n    s = HTTPServer(app, ssl_options=TLS)\nelse:\n    s = HTTPServer(app)\n"
    "s.listen(443, 'a')": "run_app(app, host='a', port=443, ssl_context=ssl_context_of(TLS))",
    "s = HTTPServer(app, **kw)\ns.listen(443, 'a')": "run_app(app, host='127.0.0.1', port=443)",
    "def f(self):\n    self.serve_tls = HTTPServer(app, ssl_options=TLS)\n"
    "def g(other):\n    other.http_server.listen(443, 'a')": "run_app(app, host='a', port=443, "
    "ssl_context=ssl_context_of(TLS))",
}


@pytest.mark.parametrize(("code", "start"), LISTENS.items())
def test_server_listens_no_wider_than_before(code: str, start: str) -> None:
    *_, advice = advice_for(code)
    assert advice.startswith(start), advice
    compile(start, "advice", "eval")
    is_told = "on all addresses as before" in advice
    assert is_told == ("host=" not in start and "sock=" not in start)


@pytest.mark.parametrize("how", ["app.listen(8080, {})", "HTTPServer(app, {})"])
@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("xheaders=True", "XForwardedStrict"),
        ("xheaders=options.xheaders", "XForwardedStrict"),
        ("protocol='https'", "XForwardedStrict"),
        ("trusted_downstream=['10.0.0.1']", "XForwardedStrict"),
        ("ssl_options=TLS", "including cert_reqs and ca_certs"),
        ("max_body_size=10", "max_message_size"),
        ("max_buffer_size=10", "max_message_size"),
        ("idle_connection_timeout=9", "keepalive_timeout"),
        ("body_timeout=9", "receive_timeout"),
        ("decompress_request=True", "within the size limits"),
        ("no_keep_alive=True", "no_keep_alive: remove it; run_app has no such option"),
        ("chunk_size=5", "chunk_size: remove it; run_app has no such option"),
        ("**more", "**more: if it contains an address or TLS options"),
    ],
)
def test_no_option_vanishes_without_a_word(how: str, option: str, advice: str) -> None:
    (found,) = advice_for(how.format(option))
    assert advice in found


@pytest.mark.parametrize("option", ["xheaders=False", "ssl_options=None", "protocol=None"])
def test_options_that_are_off_need_no_word(option: str) -> None:
    (found,) = advice_for(f"app.listen(8080, {option})")
    assert found == (
        "run_app(app, port=8080), which listens on all addresses as before; "
        "put this where the loop is started"
    )


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("s = HTTPServer(app)\ns.bind(80)\ns.start(0)", "N"),
        ("s = HTTPServer(app)\ns.bind(80)\ns.start(4)", "4"),
        ("s = HTTPServer(app)\ns.bind(80)\ns.start(num_processes=None)", "N"),
        ("self.server.start(options.processes)", "options.processes"),
        ("process.fork_processes(0)", "N"),
        ("process.fork_processes(3, max_restarts=5)", "3"),
    ],
)
def test_several_processes_are_told(code: str, number: str) -> None:
    *_, advice = advice_for(code)
    assert f"serve MODULE:FACTORY --workers {number} --host ... --port ..." in advice


@pytest.mark.parametrize("call", ["s.start()", "s.start(1)"])
def test_one_process_needs_no_word(call: str) -> None:
    assert len(advice_for(f"s = HTTPServer(app)\n{call}")) == 1  # about HTTPServer


@pytest.mark.parametrize(
    "code",
    [
        "import signal\nsignal.signal(signal.SIGTERM, end)",
        "def end(number, frame):\n"
        "    IOLoop.instance().add_callback_from_signal(IOLoop.instance().stop)",
        "loop = IOLoop.current()\ndef end():\n    loop.add_callback(loop.stop)",
        "def end():\n    IOLoop.instance().stop()",
        "loop = IOLoop.current()\ndef end():\n    loop.stop()",
    ],
)
def test_end_of_the_loop_is_told(code: str) -> None:
    (advice,) = advice_for(code)
    assert advice.startswith("remove it: run_app ends the loop on SIGTERM and SIGINT")


LISTENS_PERHAPS = {
    "Application().listen(8080, '127.0.0.1')": "run_app(app, host='127.0.0.1', port=8080)",
    "site = make_site()\nsite.listen(8080, 'a')": "run_app(app, host='a', port=8080)",
    "make_http(site).listen(8443, 'a', ssl_options=TLS)": "run_app(app, host='a', port=8443, "
    "ssl_context=ssl_context_of(TLS))",
    "web = make_http(site)\nweb.bind(8444, 'a')": "run_app(app, host='a', port=8444)",
    "for each in [site]:\n    each.add_sockets(sockets)": "run_app(app, sock=sockets)",
}


@pytest.mark.parametrize(("code", "start"), LISTENS_PERHAPS.items())
def test_line_that_may_listen_is_told_with_an_if(code: str, start: str) -> None:
    *_, advice = advice_for(code)
    assert advice.startswith(f"if this is a Tornado server: {start}")


@pytest.mark.parametrize(
    "code",
    [
        "class Site(web.Application): pass\nSite().listen(8080, 'a')",
        "class Site(web.Application): pass\nx = Site()\nx.listen(8080, 'a')",
        "class Site(Base): pass\nclass Base(web.Application): pass\nSite().listen(8080, 'a')",
    ],
)
def test_class_derived_from_the_application_is_one(code: str) -> None:
    *_, advice = advice_for(code)
    assert advice.startswith("run_app(app, host='a', port=8080)")


@pytest.mark.parametrize(
    "code",
    [
        "web = make()\nweb.bind(80, 'a')\nweb.start(2)",
        "for each in servers:\n    each.start(2)",
    ],
)
def test_processes_of_what_may_be_a_server_are_told(code: str) -> None:
    *_, advice = advice_for(code)
    assert advice.startswith("if this is a Tornado server: to run several processes, use ")
    assert "--workers 2" in advice


@pytest.mark.parametrize(
    "code",
    [
        "start = functools.partial(app.listen, address='127.0.0.1')",
        "listen = HTTPServer(app).listen",
        "if tls:\n    bind = app.bind",
    ],
)
def test_method_that_listens_is_told_where_it_is_kept(code: str) -> None:
    (advice,) = advice_for(code, Kind.UNDECIDABLE)
    assert "the same address and TLS options" in advice


@pytest.mark.parametrize(
    "code",
    [
        "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 80))\ns.listen(5)",
        "class C:\n  def hear(self, m): pass\n  def f(self):\n    self.redis.listen(self.hear)",
        "redis.listen(lambda message: None)",
        "connection.listen('channel')",
        "widget.bind('<Key>', key)",
        "log = log.bind(user=1)",
        "thread.start()",
        "span.start('name')",
    ],
)
def test_what_listens_to_something_else_is_left_alone(code: str) -> None:
    assert advice_for(code) == []


def test_class_derived_from_the_server_is_one() -> None:
    *_, advice = advice_for(
        "class S(HTTPServer): pass\nx = S(app, ssl_options=T)\nx.listen(1, 'a')"
    )
    assert advice.startswith("run_app(app, host='a', port=1, ssl_context=ssl_context_of(T))")


def test_asyncios_loop_is_a_start_too() -> None:
    (advice,) = advice_for("import asyncio\nloop = asyncio.get_event_loop()\nloop.run_forever()")
    assert advice == "run_app(app, ...), which runs the loop"


def test_urls_of_tornados_own_handlers_do_not_vanish_without_a_word() -> None:
    for name, told in {
        "StaticFileHandler": "add_static",
        "RedirectHandler": "web.HTTPFound",
        "FallbackHandler": "WSGI",
    }.items():
        (advice,) = advice_for(f"urls = [('/x/(.*)', web.{name}, {{}})]")
        assert told in advice
    (advice,) = advice_for("web.Application(r.urls, static_path='files')")
    assert 'app.router.add_static("/static", PATH)' in advice


HIDDEN = {
    "a local variable": "def f():\n    ioloop = make()",
    "a parameter": "def f(ioloop, web): pass",
    "of a lambda": "f = lambda ioloop: ioloop.IOLoop",
    "a method": "class H(Handler):\n    def ioloop(self): pass",
    "in another class": "class H:\n    ioloop = 1",
    "a global of the same import": "def f():\n    global ioloop\n    return ioloop",
}


@pytest.mark.parametrize("code", HIDDEN.values(), ids=HIDDEN)
def test_name_that_means_something_else_elsewhere_hides_nothing_here(code: str) -> None:
    (advice,) = advice_for(f"{code}\nioloop.IOLoop.instance().start()")
    assert advice == "run_app(app, ...), which runs the loop"
    (advice,) = advice_for(f"{code}\ndef main():\n    ioloop.IOLoop.instance().start()")
    assert advice == "run_app(app, ...), which runs the loop"


@pytest.mark.parametrize(
    "code",
    [
        "ioloop = make()\nioloop.IOLoop.instance().start()",
        "def f(ioloop):\n    ioloop.IOLoop.instance().start()",
        "def f():\n    ioloop = g()\n    def h():\n        ioloop.IOLoop.instance().start()",
        "class A:\n    ioloop = g()\n    ioloop.IOLoop.instance().start()",
        "def f():\n    global ioloop\n    ioloop = g()\nioloop.IOLoop.instance().start()",
    ],
)
def test_name_that_means_something_else_here_is_left_alone(code: str) -> None:
    assert advice_for(code) == []


def test_loop_of_zmq_is_tornados() -> None:
    code = "from zmq.eventloop import ioloop as z\n"
    (advice,) = advice_for(f"{code}z.IOLoop.instance().start()")
    assert advice == "run_app(app, ...), which runs the loop"
    (advice,) = advice_for(f"{code}z.PeriodicCallback(f, 1).start()")
    assert advice.startswith("this has no effect before the loop runs")
    (advice,) = advice_for(f"{code}z.install()")
    assert advice.startswith("remove it")


def test_application_that_listens_by_itself_is_a_server() -> None:
    code = "class App(web.Application):\n    def go(self):\n        self.listen(8080, 'a')"
    *_, advice = advice_for(code)
    assert advice.startswith("run_app(app, host='a', port=8080)")


def test_end_is_told_in_files_without_a_service_too() -> None:
    code = "import signal, tornado.ioloop\nsignal.signal(signal.SIGTERM, end)"
    (finding,) = examine(code.encode()).beside
    assert finding.advice.startswith("remove it: run_app ends the loop")


def test_other_handlers_and_hosts_of_an_application_are_told() -> None:
    (advice,) = advice_for("web.Application([('/', Page), web.url('/x', X)] + router.urls)")
    assert advice.startswith("app = web.Application(); router.attach(app); ")
    assert "the other handlers, Page and X, do not move along" in advice
    (advice,) = advice_for("web.Application(routes + router.urls, **settings)")
    assert "the other handlers, routes, do not move along" in advice
    assert "the settings **settings do not move along" in advice
    (advice,) = advice_for("web.Application(router.urls, default_host='a', db=db, debug=False)")
    assert advice.endswith("; the settings default_host, db do not move along")
    assert advice_for("web.Application(router.urls)") == [
        "app = web.Application(); router.attach(app)"
    ]
    for name in ("HostMatches", "RuleRouter"):
        code = f"from tornado.routing import {name}\nx = {name}(y)"
        (advice,) = advice_for(code, Kind.UNDECIDABLE)
        assert "app.add_domain(HOST, sub)" in advice


def test_handlers_for_one_host_stay_with_it() -> None:
    assert advice_for("app.add_handlers('.*$', [('/', Page)])") == []
    (advice,) = advice_for("app.add_handlers(r'^dash\\.example\\.com$', router.urls)")
    assert "app.add_domain(HOST, sub)" in advice and "dash" in advice
    assert advice_for("app.add_handlers('.*$', router.urls)") == ["router.attach(app)"]


def test_sockets_are_kept() -> None:
    for code in ("netutil.bind_sockets(80, 'a')", "netutil.bind_unix_socket('/run/a', 0o600)"):
        (advice,) = advice_for(code, Kind.SUPPORTED)
        assert "run_app(app, sock=...)" in advice


NEVER = {
    "at the module": "PeriodicCallback(f, 1000).start()",
    "by a name": "ticker = PeriodicCallback(f, 1000)\nticker.start()",
    "by its full name": "import tornado.ioloop\ntornado.ioloop.PeriodicCallback(f, 1).start()",
    "by an attribute": "x.ticker = ioloop.PeriodicCallback(f, 1000)\nx.ticker.start()",
    "in a branch": "if __name__ == '__main__':\n    PeriodicCallback(f, 1000).start()",
    "in a class": "class A:\n    t = PeriodicCallback(f, 1000)\n    t.start()",
    "where it listens": "def main():\n    PeriodicCallback(f, 1000).start()\n    app.listen(80)",
    "where it starts": "def main():\n    PeriodicCallback(f, 1).start()\n"
    "    IOLoop.instance().start()",
    "in an application": "class App(web.Application):\n    def __init__(self):\n"
    "        PeriodicCallback(f, 1000).start()",
    "of a class of its own": "class Ticker(PeriodicCallback): pass\nTicker(f, 1).start()",
    "of a class by its full name": "import tornado.ioloop\n"
    "class Ticker(Mixin, tornado.ioloop.PeriodicCallback): pass\nt = Ticker(f, 1)\nt.start()",
    "of a class of that class": "class B(A): pass\nclass A(PeriodicCallback): pass\n"
    "B(f, 1).start()",
    "by a loop that may be given": "class M:\n  loop = given or IOLoop.current()\n"
    "  loop.spawn_callback(f)",
    "by one of two loops": "loop: IOLoop = a.loop if a else IOLoop.current()\nloop.call_at(1, f)",
    "by asyncio's loop": "import asyncio\nloop = asyncio.get_event_loop()\nloop.create_task(f())",
    "a server of another protocol": "from tornado.tcpserver import TCPServer\n"
    "class Lines(TCPServer): pass\nserver = Lines()\nserver.listen(9000, '127.0.0.1')",
    "a server that is not kept": "import tornado.tcpserver\n"
    "class Lines(tornado.tcpserver.TCPServer): pass\nLines().bind(9000)",
    "add_callback": "IOLoop.instance().add_callback(f)",
    "call_later": "loop = IOLoop.current()\nloop.call_later(1, f)",
    "add_timeout": "IOLoop.instance().add_timeout(deadline, f)",
    "spawn_callback": "IOLoop.current().spawn_callback(f)",
    "add_handler": "IOLoop.current().add_handler(fd, f, 1)",
}


@pytest.mark.parametrize("code", NEVER.values(), ids=NEVER)
def test_what_is_started_before_the_loop_is_told(code: str) -> None:
    advice = [found for found in advice_for(code) if "on_startup" in found]
    assert advice == [
        "this has no effect before the loop runs: do it in a function in app.on_startup"
    ]


def test_what_may_be_started_before_the_loop_is_told_with_an_if() -> None:
    for scope in ("def helper():", "class Ticker:\n  def go(self):"):
        (advice,) = advice_for(f"{scope}\n      PeriodicCallback(f, 1000).start()")
        assert advice.startswith("if this is called before the loop runs, it has no effect")


def test_ticker_that_starts_itself_is_told_with_an_if() -> None:
    code = "class Ticker(PeriodicCallback):\n  def __init__(self):\n    self.start()"
    (advice,) = advice_for(code)
    assert advice.startswith("if this is called before the loop runs, it has no effect")


UNSEEN = {
    "imported elsewhere": "ticker = PeriodicCallback(f, 1)",
    "in a list": "tickers = [PeriodicCallback(f, 1)]\nfor each in tickers:\n    each.start()",
    "handed on": "start_it(PeriodicCallback(f, 1))",
    "returned": "def make():\n    return PeriodicCallback(f, 1)",
    "of a class": "class T(PeriodicCallback): pass\nticker = T(f, 1)",
}


@pytest.mark.parametrize("code", UNSEEN.values(), ids=UNSEEN)
def test_ticker_that_is_started_out_of_sight_is_told(code: str) -> None:
    (advice,) = advice_for(code)
    assert advice.startswith("wherever this ticker is started")
    assert "in a function in app.on_startup" in advice


def test_ticker_by_another_name_is_one() -> None:
    code = "pc = ioloop.PeriodicCallback\nt = pc(f, 1)\nt.start()"
    (advice,) = advice_for(code)
    assert advice.startswith("this has no effect before the loop runs")


KEPT = {
    "used in a hook": "loop = IOLoop.instance()\nclass C(SockJSConnection):\n"
    "  def on_message(self, m):\n    loop.add_callback(self.f)",
    "imported elsewhere": "loop = IOLoop.current()",
    "handed on": "loop = IOLoop.current()\nworker = Worker(loop)",
    "handed on at once": "worker = Worker(IOLoop.current())",
    "a default": "def later(f, loop=IOLoop.instance()):\n    loop.add_callback(f)",
    "of a class": "class C(SockJSConnection):\n  loop = IOLoop.instance()",
    "asyncio's": "import asyncio\nloop = asyncio.get_event_loop()\nworker = Worker(loop)",
    "by the start": "def main():\n  loop = IOLoop.current()\n  Worker(loop)\n  loop.start()",
}


@pytest.mark.parametrize("code", KEPT.values(), ids=KEPT)
def test_loop_that_is_kept_from_before_the_start_is_told(code: str) -> None:
    (advice,) = [each for each in advice_for(code) if "run_app runs another loop" in each]
    assert "call IOLoop.current() where you need the loop" in advice


@pytest.mark.parametrize(
    "code",
    [
        "loop = IOLoop.current()\nloop.start()",
        "def main():\n  loop = IOLoop.current()\n  loop.add_callback(f)\n  loop.start()",
        "IOLoop.current().start()",
        "class C(SockJSConnection):\n  def on_open(self, info):\n    self.loop = IOLoop.current()",
        "def later(f):\n  loop = IOLoop.current()\n  loop.add_callback(f)",
        "ticker = PeriodicCallback(f, 1, io_loop=IOLoop.instance())",
    ],
)
def test_loop_that_is_not_kept_needs_no_word(code: str) -> None:
    assert not [each for each in advice_for(code) if "run_app runs another loop" in each]


def test_loop_that_may_be_kept_is_told_with_an_if() -> None:
    (advice,) = advice_for("class W:\n  def __init__(self):\n    self.loop = IOLoop.current()")
    assert advice.startswith("if this is called before the loop runs: run_app runs another loop")


def test_run_sync_has_a_loop_of_its_own() -> None:
    (advice,) = advice_for("IOLoop.current().run_sync(connect_to_database)")
    assert "another loop than run_app does" in advice


@pytest.mark.parametrize(
    "code",
    [
        "class C(SockJSConnection):\n    def on_open(self, info):\n"
        "        self.t = PeriodicCallback(f, 1)\n        self.t.start()",
        "class H(web.RequestHandler):\n    def later(self):\n"
        "        IOLoop.current().call_later(1, f)",
        "async def main():\n    PeriodicCallback(f, 1).start()",
        "class C(SockJSConnection):\n    def on_open(self, info):\n"
        "        self.tickers.append(PeriodicCallback(f, 1))",
        "ticker = other(f, 1)\nticker.start()",
        "thread.start()",
        "class Ticker(Thread): pass\nTicker(f, 1).start()",
        "class Ticker(Thread):\n  def __init__(self):\n    self.start()",
        "class Ticker(PeriodicCallback):\n  def __init__(self):\n    self.thread.start()",
        "class A(A): pass\nA().start()",
    ],
)
def test_what_is_started_while_the_loop_runs_is_left_alone(code: str) -> None:
    assert not [found for found in advice_for(code) if "on_startup" in found]


def test_advice_is_what_the_guide_says(request: pytest.FixtureRequest) -> None:
    root = request.config.rootpath
    guide = (root / "docs/migrating-from-sockjs-tornado.md").read_text()
    assert re.search(r"^run_app\(app, host=.*, port=8080\)$", guide, re.M)
    assert "web.run_app(app" not in guide
    assert "web.run_app" not in (root / "docs/migrating-from-aiolibs-sockjs.md").read_text()
