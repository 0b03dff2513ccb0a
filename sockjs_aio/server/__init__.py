"""The aiohttp side: routes, requests and responses, with one module per family of transports."""
