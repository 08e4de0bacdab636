"""What an open plane consists of: its parts opened, kept and moved, over the rooms below."""
