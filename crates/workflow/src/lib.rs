//! The workflow language, pure
