"""Operations: migrate, health, metrics, adopt."""
