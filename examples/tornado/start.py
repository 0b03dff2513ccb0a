"""What these examples share: a page, the sockjs-client script, and starting the server."""

from functools import partial
from pathlib import Path
from string import Template

from aiohttp import web

from examples.chat import CDN, SOCKJS_CLIENT, script_tag, send_file, send_page
from examples.serving import make_parser, serve
from sockjs_aio.tornado import SockJSRouter

PAGES = Path(__file__).parent / "pages"
HAS_CLIENT = SOCKJS_CLIENT.is_file()
SOCKJS_URL = "/sockjs.min.js" if HAS_CLIENT else CDN


def make_app(*routers: SockJSRouter, page: str | None = None) -> web.Application:
    """Make an application with `routers`, and with the file `page` from `PAGES` at ``/``."""
    app = web.Application()
    for router in routers:
        router.attach(app)
    if page is not None:
        text = Template((PAGES / page).read_text(encoding="utf-8"))
        html = text.substitute(sockjs_script=script_tag(SOCKJS_URL))
        app.add_routes([web.get("/", partial(send_page, html))])
    if HAS_CLIENT:
        app.add_routes([web.get(SOCKJS_URL, partial(send_file, SOCKJS_CLIENT))])
    return app


def run(app: web.Application, description: str) -> None:
    """Serve `app` on the host and port from the command line."""
    serve(app, make_parser(None, description).parse_args())
