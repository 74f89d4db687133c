"""Environments on this node: what it holds, how a task gets the version it names, what a builder is asked to do."""
