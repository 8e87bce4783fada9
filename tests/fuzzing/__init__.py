"""The whole API asked for what its own description allows, and for what it does not: no answer may be a 500.

    python -m tests.fuzzing --schemathesis .venv/fuzz/bin/st [--tag schedules --tag tasks]

Schemathesis stands in an environment of its own, so that its plugin for pytest meets none of our tests.
"""
