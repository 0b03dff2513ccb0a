"""Run the chat: ``python -m examples.chat [--host HOST] [--port PORT] [--redis URL]``."""

import os
from pathlib import Path

from examples.chat import SOCKJS_CLIENT, make_app
from examples.serving import make_parser, serve
from sockjs_aio import Broker, Nodes, SettingsError

PREFIX = "sockjs-chat:"  # of the keys and channels in Redis


def main() -> None:
    parser = make_parser("python -m examples.chat", "The chat page.")
    parser.add_argument(
        "--sockjs-client",
        type=Path,
        metavar="PATH",
        help="the file sockjs.min.js of sockjs-client 1.6.1; by default, pages load it from a CDN",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="connects several chats, each on its own port; for example redis://127.0.0.1",
    )
    parser.add_argument(
        "--url",
        help="where the other chats reach this one, so that they can relay requests to each other; "
        "set NODES_SECRET to the same value in the environment of all of them",
    )
    parser.add_argument(
        "--node", metavar="NAME", default="", help="a name for this chat, shown beside transports"
    )
    arguments = parser.parse_args()
    if arguments.sockjs_client and not arguments.sockjs_client.is_file():
        parser.error(f"--sockjs-client: file not found: {arguments.sockjs_client}")
    if arguments.url and not arguments.redis:
        parser.error("--url requires --redis")
    broker = make_broker(arguments.redis) if arguments.redis else None
    app = make_app(arguments.sockjs_client or SOCKJS_CLIENT, broker, arguments.node)
    if arguments.url:
        make_nodes(arguments.redis, arguments.url).attach(app)
    serve(app, arguments)


def make_broker(url: str) -> Broker:
    try:
        from sockjs_aio.brokers.redis import RedisBroker  # needs redis-py

        return RedisBroker(url, prefix=PREFIX, member_expiry=6)
    except (ModuleNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None


def make_nodes(redis: str, url: str) -> Nodes:
    secret = os.environ.get("NODES_SECRET", "")
    try:
        return Nodes(redis, url=url, secret=secret, namespace=PREFIX)
    except SettingsError as error:
        raise SystemExit(f"{error} (set the secret in NODES_SECRET)") from None


if __name__ == "__main__":
    main()
