"""Run the page: ``python -m examples.multiplex [--host HOST] [--port PORT]``."""

from examples.multiplex import make_app
from examples.serving import make_parser, serve


def main() -> None:
    parser = make_parser("python -m examples.multiplex", "Three channels over one socket.")
    serve(make_app(), parser.parse_args())


if __name__ == "__main__":
    main()
