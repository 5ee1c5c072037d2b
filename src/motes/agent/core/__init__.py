"""The agent's core: `machine` is its door. No I/O, no clock, no randomness: lint checks what is imported here."""
