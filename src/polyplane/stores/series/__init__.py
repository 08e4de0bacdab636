"""Series stores."""
