"""The chat on three nodes behind haproxy: ``python -m examples.cluster``, then open what it prints.

It starts redis-server, three nodes of `examples/chat`, and haproxy with a configuration of
`haproxy/`; all listen where they disturb nobody, and all end with it.
"""
