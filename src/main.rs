//! The Kagami operator.
fn main() {}
