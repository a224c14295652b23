"""The live world: device and server processes, connections."""
