"""The crash test: a real campaign, real faults, and the mails that really arrived, counted."""
