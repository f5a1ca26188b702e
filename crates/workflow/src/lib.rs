//! The workflow language, pure

pub mod command;
pub mod envfile;
pub mod mask;
