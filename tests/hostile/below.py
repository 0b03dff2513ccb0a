"""An application whose service is in a sub-application; `python -m tests.hostile.below PORT`."""

import sys

from aiohttp import web

from sockjs_aio import Drain, SockJSRouter, run_app
from tests.conftest import Echo


def make_app() -> web.Application:
    below = web.Application()
    SockJSRouter(Echo, "/echo").attach(below)
    app = web.Application()
    app.add_subapp("/below", below)
    return app


if __name__ == "__main__":
    run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]), drain=Drain(notice=0), print=None)
