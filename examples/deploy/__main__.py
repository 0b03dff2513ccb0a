"""Run one process of the service: ``python -m examples.deploy``."""

import logging
import os

from examples.deploy import drain, make_node
from sockjs_aio import run_app

if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(levelname)s %(message)s")
    run_app(make_node(), port=int(os.environ.get("PORT", "8080")), drain=drain(), access_log=None)
