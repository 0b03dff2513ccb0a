"""Runs the command: ``python -m sockjs_aio.migrate``."""

import sys

from sockjs_aio.migrate.examination import main

sys.exit(main())
