"""Run the page: ``python -m examples.authorize [--host HOST] [--port PORT] [--origin ORIGIN]``."""

from examples.authorize import make_app
from examples.serving import make_parser, serve


def main() -> None:
    parser = make_parser("python -m examples.authorize", "Who may connect, by cookie or by token.")
    parser.add_argument(
        "--origin", action="append", help="allow pages of this origin, not of the host and port"
    )
    arguments = parser.parse_args()
    names = {arguments.host, "127.0.0.1", "localhost"}
    origins = arguments.origin or [f"http://{name}:{arguments.port}" for name in sorted(names)]
    serve(make_app(origins), arguments)  # without aiohttp's access log, which would show tokens


if __name__ == "__main__":
    main()
