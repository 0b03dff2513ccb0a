"""Runs the command: ``python -m sockjs_aio serve``."""

import sys

from sockjs_aio.cluster.command import main

sys.exit(main())
