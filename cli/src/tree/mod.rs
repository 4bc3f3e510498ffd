//! A tree of files as keys and values: what `import` and `export` share.
//!
//! `docs/import.md` describes the layout for users.

pub mod budget;
pub mod download;
pub mod parts;
pub mod path;
pub mod upload;
pub mod walk;
