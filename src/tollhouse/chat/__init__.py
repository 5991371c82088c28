"""The canonical conversation: what every dialect is translated to and from."""
