"""Runs the command: ``python -m sockjs_aio.migrate``."""

import sys

from sockjs_aio.exit_status import exit_status
from sockjs_aio.migrate.command import main

sys.exit(exit_status(main))
