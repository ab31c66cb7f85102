//! kagami-protocol
