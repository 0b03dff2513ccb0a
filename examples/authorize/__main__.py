"""Run the page: ``python -m examples.authorize [--host HOST] [--port PORT] [--origin ORIGIN]``."""

from examples.authorize import make_app
from examples.serving import make_parser, serve


def main() -> None:
    parser = make_parser("python -m examples.authorize", "Who may come in, by cookie or by token.")
    parser.add_argument("--origin", action="append", help="where the page is seen to come from")
    arguments = parser.parse_args()
    names = {arguments.host, "127.0.0.1", "localhost"}
    origins = arguments.origin or [f"http://{name}:{arguments.port}" for name in sorted(names)]
    serve(make_app(origins), arguments)  # without aiohttp's log, which would have the tokens


if __name__ == "__main__":
    main()
