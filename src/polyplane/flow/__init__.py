"""What moves data: relay, projector, backfill, ingest."""
