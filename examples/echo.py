"""Sends every message back, over any transport."""

from aiohttp import web

from sockjs_aio import ConnectionInfo, SockJSConnection, SockJSRouter, run_app


class Echo(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        print(f"{info.ip} connected over {info.transport}")

    async def on_message(self, message: str) -> None:
        self.send(message)

    async def on_close(self) -> None:
        print(f"{self.info.ip} disconnected")


app = web.Application()
SockJSRouter(Echo, "/echo").attach(app)

if __name__ == "__main__":
    run_app(app, host="127.0.0.1", port=8080)
