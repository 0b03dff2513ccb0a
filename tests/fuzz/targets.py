"""The fuzz targets by name: each takes bytes, and raises when an invariant does not hold."""

from collections.abc import Callable
from pathlib import Path

from tests.fuzz.channels import fuzz_multiplex
from tests.fuzz.client_frames import fuzz_client_frames
from tests.fuzz.handover import fuzz_handover
from tests.fuzz.handshake import fuzz_handshake
from tests.fuzz.heads import fuzz_callback, fuzz_cookie, fuzz_ids, fuzz_origin
from tests.fuzz.lane import fuzz_lane, fuzz_lane_tls
from tests.fuzz.payloads import fuzz_form, fuzz_messages, fuzz_websocket_messages
from tests.fuzz.server import fuzz_server

CORPUS = Path(__file__).parent / "corpus"

TARGETS: dict[str, Callable[[bytes], None]] = {
    "messages": fuzz_messages,
    "websocket_messages": fuzz_websocket_messages,
    "client_frames": fuzz_client_frames,
    "form": fuzz_form,
    "callback": fuzz_callback,
    "ids": fuzz_ids,
    "cookie": fuzz_cookie,
    "origin": fuzz_origin,
    "multiplex": fuzz_multiplex,
    "server": fuzz_server,
    "lane": fuzz_lane,
    "lane_tls": fuzz_lane_tls,
    "handshake": fuzz_handshake,
    "handover": fuzz_handover,
}
