"""Whole jobs made of rooms: resumable, with progress."""
