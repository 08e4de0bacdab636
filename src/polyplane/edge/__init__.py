"""What holds for requests before a route sees them: how many, and which of them came before."""
