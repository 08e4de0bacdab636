"""The HTTP face: FastAPI over a plane, without logic of its own."""
