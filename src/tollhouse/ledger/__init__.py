"""The books: prices, usage rows, the journal and their storage."""
