"""The protocol core, without I/O: sessions, methods, acceptance."""
