"""Changes in transit: NATS JetStream."""
