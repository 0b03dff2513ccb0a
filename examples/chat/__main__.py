"""Run the chat: ``python -m examples.chat [--host HOST] [--port PORT] [--sockjs-client PATH]``."""

from pathlib import Path

from examples.chat import SOCKJS_CLIENT, make_app
from examples.serving import make_parser, serve


def main() -> None:
    parser = make_parser("python -m examples.chat", "The chat page.")
    parser.add_argument(
        "--sockjs-client",
        type=Path,
        metavar="PATH",
        help="sockjs.min.js of sockjs-client 1.6.1; without it pages load it from its CDN",
    )
    arguments = parser.parse_args()
    if arguments.sockjs_client and not arguments.sockjs_client.is_file():
        parser.error(f"there is no file {arguments.sockjs_client}")
    serve(make_app(arguments.sockjs_client or SOCKJS_CLIENT), arguments)


if __name__ == "__main__":
    main()
