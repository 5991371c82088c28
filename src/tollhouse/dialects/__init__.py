"""Wire formats: pure functions between bytes and the canonical conversation."""
