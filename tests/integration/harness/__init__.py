"""Real and scripted parts around the binary. Nothing here sleeps: everything waits for an event,
with a deadline that only a failing test reaches."""
