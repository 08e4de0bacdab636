"""Who comes in, as whom, and what they may: users, sessions, keys, organizations."""
