"""What a command may show of what a server says."""

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def harmless(text: str) -> str:
    """Escape what a terminal would obey."""
    return text.translate(_CONTROLS)
