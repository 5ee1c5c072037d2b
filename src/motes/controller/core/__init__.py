"""The controller's core: `scheduler` is its door. No I/O, no clock, no randomness: lint checks what is imported."""
