"""The same service as replicas of a Ray Serve deployment, behind Ray's gRPC proxy.

`replica` runs in each replica, `proxy` in Ray's proxies, `context` and `ending` are how they agree
on statuses, `affinity` picks who answers, `__main__` starts it all on one machine. Needs the extra
`ray`; nothing else of the server knows of it.
"""
