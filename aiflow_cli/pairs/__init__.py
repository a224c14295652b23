"""The registry of pairs and the small pair that ships."""
