"""`make bench`: what this system comes to beside the usual ways to send, in one table (docs/benchmarks.md).

    python -m tests.bench [--quick] [--only ROW ...] [--peers PYTHON] [--write FILE]

Each row is measured by one module here; `peers` holds the other contestants, which run in an environment of
their own. Everything is started and ended by the program, on 127.0.0.1.
"""
