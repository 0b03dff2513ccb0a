"""Send every message back: ``python examples/echo.py``, then connect to http://127.0.0.1:8080/echo."""

from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter


class Echo(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        print(f"{info.ip} has come over {info.transport}")

    async def on_message(self, message: str) -> None:
        self.send(message)

    async def on_close(self) -> None:
        print(f"{self.info.ip} has gone")


def make_app() -> web.Application:
    app = web.Application()
    SockJSRouter(Echo, "/echo").attach(app)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8080, handler_cancellation=True)
