"""What others do the same work with: each a program in the environment of `make bench-peers`.

All answer the same commands: `start`, `one_at_a_time(count)` and `in_flight(count, flying)` of an echo of 100 bytes,
`new_worker`, `burst(count, seconds)` of calls that sleep, `map(count)` and `pids`. Times are in seconds.

For a kill in the middle they `start` with `hosts=2`, each with two of the four workers, and answer `victims(what)`, the
processes that end with a "worker" or a "host", and `stamps(count, seconds, within_s)`, a map of tasks that sleep and
tell when they end: None where no answer came.
"""
