//! A Forgejo Actions runner in which every job has its own microVM
