"""The routes of the assistant's other truth, by what they are about."""
