"""The process itself: ranks, random streams, files, errors."""
