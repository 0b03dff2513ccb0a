"""The side of aiohttp: routes, requests and responses, one module for each family of transports."""
