"""The embedded model: fetching it, checking it, running it in a process of its own."""
