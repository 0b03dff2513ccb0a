"""Runs a worker, for its supervisor: ``python -m sockjs_aio.workers FD``."""

from sockjs_aio.workers.worker import main

main()
