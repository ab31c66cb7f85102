//! kagami-convert
