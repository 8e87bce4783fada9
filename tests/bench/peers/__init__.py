"""The other contestants: a small Django project of its own, set up as each one's documentation says.

Runs in an environment that has tests/bench/requirements.txt and nothing of ours; the bench tells it through
the environment where things are (settings.py).
"""
