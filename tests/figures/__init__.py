"""Programs that print what the promises come to in figures; each starts its own services and ends them.

    python -m tests.figures.limiter     the rate limit, over eight processes
    python -m tests.figures.fairness    a small campaign during a large one
    python -m tests.figures.failover    a provider that dies and comes back
    python -m tests.figures.resets      password resets during a large campaign
    python -m tests.figures.imports     imports whose worker is killed at random moments

Importing this package starts PostgreSQL and Valkey (127.0.0.1, a fresh directory) and makes Django ready.
"""

import os

import django
from django.core.management import call_command

import tests.services  # noqa: F401  # starts the services, and ends them with the program

os.environ["DJANGO_SETTINGS_MODULE"] = "mailer_project.settings"
os.environ["LOG_LEVEL"] = "ERROR"
django.setup()
call_command("migrate", verbosity=0)
