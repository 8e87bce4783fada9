"""Preferred times and what came of them, over REST."""
