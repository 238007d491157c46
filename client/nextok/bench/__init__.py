"""`nextok bench`: puts load on a server, and tells what came of it.

    lengths      how many tokens: fixed or distributed
    settings     one run's settings, and the sweep that they are varied over
    plan         the requests of a run: seeded, the same every time
    exchange     one request as its client saw it
    runner       sends the plan over gRPC, closed or open loop
    results      the figures of a run, computed from its exchanges
    report       a run with its settings, machine and versions, as JSON and back
    points       repeated runs put together
    plots        pictures of them; the only place with matplotlib

Not part of the public face. docs/bench.md describes every figure.
"""
