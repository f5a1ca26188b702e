//! Root images from signed packages
