"""Sets of passages, queries and judgements to measure retrieval by."""
