"""Loaded by the server that forks the processes, which then need not build all of it each."""

from crash.lifetimes import rehearse

rehearse()
