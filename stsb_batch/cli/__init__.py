"""The command line: verbs parse, call one function and print."""
