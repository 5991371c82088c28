"""The client: calls to models, through a gateway or straight to providers."""
