"""The small process that starts and watches workloads apart from the runner. Standard library only."""
