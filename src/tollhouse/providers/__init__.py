"""Providers: a dialect, an address, a way to authenticate, quirks and a catalogue each."""
