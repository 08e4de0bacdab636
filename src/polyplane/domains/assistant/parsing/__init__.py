"""Documents read: files become text in chunks, by processes that can do no harm.

`parsed` says what comes of a file, `pool` reads files. Neither knows of an engine.
"""
