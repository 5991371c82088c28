"""The configuration: its schema, and loading it with line numbers."""
