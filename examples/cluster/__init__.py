"""The chat on three nodes behind haproxy: run ``python -m examples.cluster``, then open its URL.

It starts redis-server, three nodes of `examples/chat`, and haproxy with a configuration from
`haproxy/`.  All of them listen on free ports or in a temporary directory, and all stop with it.
"""
