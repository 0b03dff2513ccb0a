"""Runs a worker, for its supervisor: ``python -m sockjs_aio.cluster FD``."""

from sockjs_aio.cluster.worker import main

main()
