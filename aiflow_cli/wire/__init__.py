"""Messages and framing."""
