//! Content-addressed blobs
