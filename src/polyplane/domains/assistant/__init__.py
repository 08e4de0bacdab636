"""The assistant: documents in, the right answer out."""
