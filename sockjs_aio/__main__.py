"""Runs a command: ``python -m sockjs_aio serve`` or ``python -m sockjs_aio migrate``."""

import sys

from sockjs_aio.cluster.workers.command import main
from sockjs_aio.migrate.command import main as migrate

if sys.argv[1:2] == ["migrate"]:
    sys.exit(migrate(sys.argv[2:]))
sys.exit(main())
