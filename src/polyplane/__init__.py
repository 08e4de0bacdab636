"""polyplane: the data plane of AI applications."""
