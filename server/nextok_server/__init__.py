"""The server: an exported artifact becomes a gRPC service.

Text stands at the edges, token ids inside:

    wire -> service -> requests -> Request          event loop: validate, tokenize
            runner.start                            the only crossing inward
            engine.step                             engine thread: plan, forward, sample
            runner                                  the only crossing outward, once a step
            service -> replies -> wire              event loop
"""
