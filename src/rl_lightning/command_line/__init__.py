"""The command line's parser, configurations by name, and log lines."""
