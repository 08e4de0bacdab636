"""Applications on polyplane, written with its public face only."""
