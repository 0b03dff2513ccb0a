"""Requests that are answered without aiohttp's request machinery."""
