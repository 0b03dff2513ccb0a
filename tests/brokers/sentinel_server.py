"""A real Sentinel, for tests of failover: ``redis-server --sentinel``."""

import subprocess
from pathlib import Path

from tests.brokers.redis_server import NO_LOGIN, RedisServer

SERVICE = "my-service"


class SentinelServer(RedisServer):
    """Watches one primary and its replicas, as the only Sentinel: it needs nobody's vote."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"redis+sentinel://127.0.0.1:{self.port}/{SERVICE}"

    def watch(self, port: int, *lines: str) -> None:
        """Watch the primary at `port`, with more lines of its configuration; until it answers."""
        path = self._folder / "sentinel.conf"
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {port} 1",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 2000",
            *lines,
        )
        path.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            ["redis-server", str(path), "--sentinel"], stdout=subprocess.DEVNULL
        )
        self.until(lambda: self.command("PING") in (b"+PONG\r\n", NO_LOGIN))

    def until_it_knows_a_replica(self) -> None:
        """Without one, there is no failover."""
        self.until(lambda: b"slave-repl-offset" in self.command("SENTINEL", "REPLICAS", SERVICE))

    def fail_over(self) -> None:
        """Make a replica the primary.  At first it refuses: no replica has answered its pings."""
        self.until(lambda: self.command("SENTINEL", "FAILOVER", SERVICE) == b"+OK\r\n")
