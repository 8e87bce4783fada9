"""What is sent to whom, and the proof of it."""
