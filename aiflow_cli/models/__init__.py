"""Pairs, the InternVL2 loader, preprocessing, tokenizer, decoders."""
