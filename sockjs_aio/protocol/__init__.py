"""The SockJS protocol without I/O: no asyncio, no aiohttp, no clock."""
