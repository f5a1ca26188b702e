//! Spanned trees from YAML and TOML, diagnostics, did-you-mean
