"""Runs the command: ``python -m sockjs_aio serve``."""

import sys

from sockjs_aio.workers.command import main

sys.exit(main())
