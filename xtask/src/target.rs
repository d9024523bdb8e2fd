//! The product's own tables, read as they stand: this program does not depend on the product, which takes long to build.

#[path = "../../tracer-user/src/target/layout/mod.rs"]
pub mod layout;
