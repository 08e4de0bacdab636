"""What is true and what follows from it: declarations and pure functions, no I/O."""
