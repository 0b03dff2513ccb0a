"""Sessions, their hooks and what keeps them: asyncio, and no HTTP."""
