"""What others do the same work with: each a program in the environment of `make bench-peers`.

All answer the same commands: `start`, `one_at_a_time(count)` and `in_flight(count, flying)` of an echo of 100 bytes,
`new_worker`, `burst(count, seconds)` of calls that sleep, `map(count)` and `pids`. Times are in seconds.
"""
