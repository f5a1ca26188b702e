//! Trees of files in and out of a directory, as tar streams.
