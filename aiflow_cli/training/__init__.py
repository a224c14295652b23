"""How the small pair is made."""
