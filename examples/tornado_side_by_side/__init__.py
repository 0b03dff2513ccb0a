"""Halfway from Tornado to aiohttp: both in one process, on one event loop, with one chat room.

``python -m examples.tornado_side_by_side`` serves the old application (a page and a WebSocket
handler of Tornado) on port 8081, and the new one (SockJS on aiohttp) on port 8082.  haproxy.cfg
makes one site of them: run ``haproxy -f examples/tornado_side_by_side/haproxy.cfg``, then open
http://127.0.0.1:8080/.
"""
