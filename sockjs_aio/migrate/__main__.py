"""Runs the command: ``python -m sockjs_aio.migrate``."""

import sys

from sockjs_aio.migrate.command import main

sys.exit(main())
