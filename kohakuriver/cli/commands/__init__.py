"""One file a noun: HELP, add(parser), and handlers (args, out) -> exit code."""
